"""The activity `provider_attempt`: one order in, one request out, an answer or facts back.

The steps are in `_ask` and `_accept`: check the order, resolve its key, build the request, send it, read the response,
accept the answer. The attempt holds its outcome until the Temporal server is reachable. Temporal never retries this
activity: the workflow decides what a failure means.
"""

import asyncio
import time
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn

import httpx
from temporalio import activity
from temporalio.converter import DataConverter

from durable_llm.contract.attempt_failure import failure_of
from durable_llm.contract.content import ContentReference
from durable_llm.contract.facts import FailureFacts, LocalFault
from durable_llm.contract.heartbeat import AttemptHeartbeat
from durable_llm.contract.names import ATTEMPT_ACTIVITY
from durable_llm.contract.quotas import Quotas, of_quota_queue
from durable_llm.contract.request import AttemptOrder, Prompt
from durable_llm.contract.result import Answer
from durable_llm.store import Store
from durable_llm.streams import Streams, open_streams

from .answer.truncate import truncate
from .batch.batches import WINDOW_S, join_batch
from .embeddings import VectorKeeper, embed, read_embeddings
from .failure.facts import facts_of_exception, facts_of_timeout
from .faults import LocalFaultError, TokenTimeoutError
from .holds import Holds
from .observation import record_observation
from .publishing import Publisher, Publishing
from .quota.budgets import Money, settle_money
from .quota.reports import Measured, QuotaReports
from .read_response import facts_of_rejected_answer, facts_of_unchecked_answer, read_response
from .recent import Recent
from .request.build import build_request, check_spec, streamed
from .secrets.key_ring import KeyRing
from .secrets.scrub import CURRENT_PROMPT
from .send import send, warm_up
from .temporal.heartbeats import Heartbeat, Heartbeats
from .temporal.prompts import Prompts
from .temporal.server import Server, TemporalServer, worker_stops
from .validation.checks import AnswerChecks, Validation
from .validation.registry import Registry
from .validation.runner import DEFAULT_TIMEOUT_S, BrokenFunctionError
from .wire.exchange import Exchange
from .wire.transport import install_transport

LOG_BYTES: Final = 8000
"""Bytes of a log record."""

HEARTBEAT_INTERVAL: Final = timedelta(seconds=5)

_PROMPT_S: Final = 60.0
"""Seconds to fetch the prompt of a line of a batch from the store."""


class ProviderAttempts:
    """Makes attempts with one worker's keys.

    Args:
        keys: The worker's keys and the rules for them.
        heartbeat_interval: Between two heartbeats of one attempt. It grows when many attempts are in flight.
        also_allowed: Names of provider parameters that the operator added to the contract's list.
        server: The Temporal server. None: the server of the running activity.
        store: The store of prompts that are too large for Temporal. None: this worker has none.
        registry: The worker's validators and tool parsers. None: those that every worker has.
        validator_timeout: Time limit of one validator or tool parser.
        converter: Decodes prompts. None: the converter of the worker's client.
        streams: Where answers are published while they are written. None: in Temporal.
        batch_window: How long a provider's batch waits for more attempts.
        quotas: The quotas that the operator declares. None: this worker keeps none, and reports nothing.

    Attributes:
        holds: What operators hold now.
        recent: How providers have answered lately.
    """

    def __init__(  # noqa: PLR0913  # a worker's parts, all but one by name
        self,
        keys: KeyRing,
        *,
        heartbeat_interval: timedelta = HEARTBEAT_INTERVAL,
        also_allowed: Collection[str] = (),
        server: Server | None = None,
        store: Store | None = None,
        registry: Registry | None = None,
        validator_timeout: timedelta = timedelta(seconds=DEFAULT_TIMEOUT_S),
        converter: DataConverter | None = None,
        streams: Streams | None = None,
        batch_window: timedelta = timedelta(seconds=WINDOW_S),
        quotas: Quotas | None = None,
    ) -> None:
        install_transport()
        self._batch_window = batch_window
        self._keys = keys
        self._heartbeats = Heartbeats(heartbeat_interval)
        self._also_allowed = frozenset(also_allowed)
        self._server = server or TemporalServer(converter)
        self._prompts = Prompts(self._server, store, converter)
        self._vectors = VectorKeeper(store, converter)
        self._validation = Validation(registry, validator_timeout.total_seconds())
        self._streams = streams or open_streams("")
        self._publishing = Publishing(self._streams)
        self._money = Money()
        self.holds = Holds()
        self.recent = Recent()
        self._reports = QuotaReports(quotas)

    async def warm_up(self) -> None:
        """Load what the first attempt would load, before there is one."""
        await warm_up()

    async def close(self) -> None:
        """Close connections, after the last attempt."""
        await self._reports.close()
        await self._streams.close()

    def missing_keys(self) -> list[str]:
        """References in the worker's settings that lead to no key."""
        return self._keys.missing()

    def clean_log(self, text: str) -> str:
        """A log record's text without the worker's keys and the running attempt's prompt."""
        return self._keys.scrubber(CURRENT_PROMPT.get()).clean(text, LOG_BYTES)

    @activity.defn(name=ATTEMPT_ACTIVITY)
    async def provider_attempt(self, order: AttemptOrder, prompt: Prompt | ContentReference | None) -> Answer:
        """Ask one model once.

        It heartbeats from start to completion. With a background response, the heartbeat details are an
        AttemptHeartbeat. It completes only while the server answers.

        Args:
            order: What to ask.
            prompt: The prompt, or its place in the store. None: it is read from the call's history.

        Raises:
            ApplicationError: type ATTEMPT_FAILED, not retryable, with FailureFacts as details.
            asyncio.CancelledError: the call was cancelled, and the connection is closed.
        """
        if order.batch:
            await self._join_batch(order, prompt)
        started = time.monotonic()
        async with self._heartbeats.beating() as heartbeat:
            async with self._publishing.of(order) as publisher:
                outcome = await self._outcome(order, prompt, heartbeat, publisher)
                if publisher is not None:
                    publisher.answered = isinstance(outcome, Answer)
            await self._hold(started)
        if isinstance(outcome, FailureFacts):
            # `from None`: litellm's exceptions hold keys and must not get into the history.
            raise failure_of(outcome) from None
        return outcome

    async def _join_batch(self, order: AttemptOrder, given: Prompt | ContentReference | None) -> NoReturn:
        """Leave the attempt to a provider's batch, if the request can be built.

        Raises:
            ApplicationError: as `provider_attempt`.
        """
        try:
            prompt = await self._prompts.find(given, order.timeout_s)
        except LocalFaultError as error:
            raise failure_of(facts_of_exception(error, Exchange(), self._keys.scrubber(), _now())) from None
        captured = await self.capture(order, prompt)
        if isinstance(captured, FailureFacts):
            raise failure_of(captured)
        try:
            await self.holds.check(order)
            await self._money.reserve(order, prompt)
        except LocalFaultError as error:
            raise failure_of(facts_of_exception(error, Exchange(), self._keys.scrubber(), _now())) from None
        await join_batch(order, self._batch_window.total_seconds())
        activity.raise_complete_async()

    async def capture(self, order: AttemptOrder, prompt: Prompt) -> httpx.Request | FailureFacts:
        """The request that the attempt would send; facts if it cannot be built."""
        seen: list[httpx.Request] = []

        def keep(request: httpx.Request) -> httpx.Response:
            seen.append(request)
            raise httpx.ConnectError("the request was wanted, and no answer", request=request)

        outcome = await self._delivered(order, prompt, Exchange(deliver=keep))
        return seen[0] if seen or isinstance(outcome, Answer) else outcome

    async def replay(self, order: AttemptOrder, prompt: Prompt, response: httpx.Response) -> Answer | FailureFacts:
        """What the attempt makes of a response to its request."""
        return await self._delivered(order, prompt, Exchange(deliver=lambda _: response))

    async def _delivered(self, order: AttemptOrder, prompt: Prompt, exchange: Exchange) -> Answer | FailureFacts:
        outcome = await self._within_timeout(order, prompt, exchange, Heartbeat(), None, None)
        known = {"model": outcome.model or order.spec.name}
        return outcome.model_copy(update=known) if isinstance(outcome, FailureFacts) else outcome

    async def prompt_of(self, call_id: str, run_id: str) -> Prompt:
        """The prompt of another call.

        Raises:
            LocalFaultError: it cannot be read.
        """
        return await self._prompts.of_call(call_id, run_id, _PROMPT_S)

    async def _hold(self, started: float) -> None:
        """Wait until the server is reachable. A stopping worker does not wait."""
        try:
            if not worker_stops():
                await self._server.reachable(started)
        except asyncio.CancelledError:
            if not worker_stops():
                raise

    async def _outcome(
        self, order: AttemptOrder, given: Prompt | ContentReference | None, heartbeat: Heartbeat,
        publisher: Publisher | None,
    ) -> Answer | FailureFacts:  # fmt: skip
        """An answer or the facts of a failure, with its duration."""
        started = time.monotonic()
        exchange = Exchange()
        if order.resume is not None:
            exchange.follow(order.resume)
            heartbeat.send_details(AttemptHeartbeat(response_id=order.resume))
        with self._reports.measuring(order) as measured:
            try:
                outcome = await self._within_timeout(order, given, exchange, heartbeat, publisher, measured)
            except asyncio.CancelledError:
                if not worker_stops():
                    await self._settle(order, None)
                    raise
                text = "the worker was shut down during the attempt"
                outcome = FailureFacts(text=text, local_fault=LocalFault.DRAINED, request_sent=exchange.sent)
            if measured is not None:
                measured.ends(outcome, exchange)
        if isinstance(outcome, FailureFacts):
            known = {"model": outcome.model or order.spec.name, "response_id": exchange.response_id}
            outcome = outcome.model_copy(update=known)
        self.recent.add(order.spec.name, outcome)
        await self._settle(order, outcome)
        return outcome.model_copy(update={"duration_s": round(time.monotonic() - started, 3), **_waited()})

    async def _settle(self, order: AttemptOrder, outcome: Answer | FailureFacts | None) -> None:
        """Tell the call's budgets what the running attempt has cost."""
        if order.budgets:
            info = activity.info()
            await settle_money(order, info.workflow_id or "", outcome, info.started_time)

    async def _within_timeout(
        self, order: AttemptOrder, given: Prompt | ContentReference | None, exchange: Exchange, heartbeat: Heartbeat,
        publisher: Publisher | None, measured: Measured | None,
    ) -> Answer | FailureFacts:  # fmt: skip
        """An accepted answer, or facts. The timeout limits the provider, not the checks of an answer."""
        scope = asyncio.timeout(order.timeout_s)
        prompt: Prompt | None = None
        try:
            async with scope:
                prompt = await self._prompts.find(given, order.timeout_s)
                checks = await self._validation.prepare(order.spec, prompt)
                if exchange.deliver is None and order.resume is None:  # a response that was begun is only followed
                    await self.holds.check(order)
                if exchange.deliver is None:
                    await self._money.reserve(order, prompt)
                if measured is not None:
                    measured.begins(prompt)
                outcome = await self._ask(order, prompt, exchange, heartbeat, publisher)
        except Exception as error:  # litellm raises its own classes, openai's, httpx's and built-in ones
            return self._facts_of_exception(None if scope.expired() else error, order, prompt, exchange)
        return await self._accept(outcome, checks, exchange, prompt) if isinstance(outcome, Answer) else outcome

    async def _ask(
        self, order: AttemptOrder, prompt: Prompt, exchange: Exchange, heartbeat: Heartbeat, publisher: Publisher | None
    ) -> Answer | FailureFacts:
        """Check, resolve the key, build, send and read."""
        CURRENT_PROMPT.set(prompt.content)
        spec, scrubber = order.spec, self._keys.scrubber(prompt.content)
        provider = check_spec(spec, self._also_allowed)
        if publisher is not None:
            publisher.scrubber = scrubber
        exchange.only_host = spec.api_base
        record_observation(provider=provider, prompt=prompt, exchange=exchange, secrets=self._keys.secrets)
        credentials = self._keys.resolve(provider, spec.api_base, spec.api_key)
        exchange.forbidden = credentials.forbidden
        if prompt.texts is not None:
            response = await embed(spec, provider, prompt, credentials.api_key, exchange)
            return await read_embeddings(response, spec, provider, prompt, exchange, scrubber)
        if publisher is not None or spec.first_token_timeout is not None or spec.token_timeout is not None:
            spec = streamed(spec, provider)
        request = build_request(spec, provider, prompt, credentials.api_key, all_messages=order.all_messages)
        response = await send(request, exchange, heartbeat, scrubber, publisher)
        scrubber = self._keys.scrubber(prompt.content)  # the attempt may have read a secret file
        return read_response(response, request, exchange, scrubber, _now(), last_model=order.last_model)

    async def _accept(
        self, answer: Answer, checks: AnswerChecks, exchange: Exchange, prompt: Prompt
    ) -> Answer | FailureFacts:
        """The answer, cut to a size that Temporal stores, or facts if it fails the checks."""
        if answer.vectors is not None:
            return await self._vectors.keep(answer, exchange)
        scrubber = self._keys.scrubber(prompt.content)
        try:
            accepted = await checks.accept(answer)
        except BrokenFunctionError as error:
            return facts_of_unchecked_answer(str(error), answer, exchange, scrubber)
        if isinstance(accepted, Answer):
            return truncate(accepted)
        return facts_of_rejected_answer(accepted, answer, exchange, scrubber, _now())

    def _facts_of_exception(
        self, error: Exception | None, order: AttemptOrder, prompt: Prompt | None, exchange: Exchange
    ) -> FailureFacts:
        """The facts of a failure, or of the timeout if `error` is None.

        If reading them fails too, the facts hold what is known without them. No exception may leave this method:
        Temporal would store litellm's exception as its cause, and that holds keys.
        """
        try:
            scrubber = self._keys.scrubber(prompt.content if prompt else None)
            if error is None:
                return facts_of_timeout(f"no answer within {order.timeout_s:g} s", exchange, scrubber)
            if isinstance(error, TokenTimeoutError):
                return facts_of_timeout(str(error), exchange, scrubber)
            return facts_of_exception(error, exchange, scrubber, _now())
        except Exception as fault:  # a body of unexpected shape, or a bug here
            text = f"the failure cannot be read: {type(fault).__name__}"
            return FailureFacts(text=text, http_status=exchange.status, request_sent=exchange.sent)


def _waited() -> dict[str, Any]:
    """The quota that the running attempt came through, and the seconds that it waited there."""
    if not activity.in_activity():
        return {}
    info = activity.info()
    quota = of_quota_queue(info.task_queue)[1]
    if quota is None:
        return {}
    return {"quota": quota, "waited_s": round((info.started_time - info.scheduled_time).total_seconds(), 3)}


def _now() -> datetime:
    return datetime.now(UTC)
