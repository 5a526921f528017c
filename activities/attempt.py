"""The activity `provider_attempt`: one order in, one request out, an answer or facts back.

The steps, each a method below: check the order, resolve its key, send, judge what came, hold it until the server can
take it. Temporal never retries this activity; what an attempt's failure means is the workflow's to decide.
"""

import asyncio
import time
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Final

from temporalio import activity
from temporalio.converter import DataConverter
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from durable_llm.contract.facts import FailureFacts, LocalFault
from durable_llm.contract.heartbeat import AttemptHeartbeat
from durable_llm.contract.names import ATTEMPT_ACTIVITY, ATTEMPT_FAILED
from durable_llm.contract.request import AttemptOrder, Prompt, PromptReference
from durable_llm.contract.result import Answer
from durable_llm.store import Store

from .answer.read import whole
from .answer.truncate import fitted
from .failure.facts import facts_of, request_id_of
from .judgement import judge, rejected, unjudged
from .litellm_setup import litellm, provider_of
from .observation import note
from .request.build import arguments, check_provider, check_spec, choices_asked
from .request.media import traces
from .responses import respond
from .secrets.key_ring import KeyRing
from .secrets.scrub import Scrubber
from .temporal.heartbeats import Heartbeats, Pulse
from .temporal.prompts import Prompts
from .temporal.server import Server, TemporalServer, worker_stops
from .validation.acceptance import Acceptance
from .validation.registry import Registry
from .validation.running import DEFAULT_TIMEOUT_S, BrokenFunctionError, Runner
from .wire import transport
from .wire.exchange import Exchange, recording

HEARTBEAT_INTERVAL: Final = timedelta(seconds=5)


class ProviderAttempts:
    """Makes attempts with one worker's keys.

    Args:
        keys: The worker's keys and the rules for them.
        heartbeat_interval: Between two heartbeats of one attempt; stretched when many are in flight.
        also_allowed: Names of provider parameters that the operator added to the contract's list.
        server: The Temporal server; by default the one that the running activity came from.
        store: Where clients put prompts that are too large for Temporal; None: this worker has no such store.
        registry: The worker's validators and tool parsers; by default those that every worker has.
        validator_timeout: How long one of them may take.
        converter: What decodes prompts; None: the converter of the worker's client.
    """

    def __init__(
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
    ) -> None:
        transport.install()
        self._keys = keys
        self._heartbeats = Heartbeats(heartbeat_interval)
        self._also_allowed = frozenset(also_allowed)
        self._server = server or TemporalServer(converter)
        self._prompts = Prompts(self._server, store, converter)
        self._registry = registry or Registry()
        self._runner = Runner(validator_timeout.total_seconds())

    @activity.defn(name=ATTEMPT_ACTIVITY)
    async def provider_attempt(self, order: AttemptOrder, prompt: Prompt | PromptReference | None) -> Answer:
        """Ask one model once.

        Heartbeats from its start until its completion; the details are an AttemptHeartbeat once there is a background
        response to follow. Completes only while the server answers.

        Args:
            order: What to ask.
            prompt: The prompt, or where it is in the store; None: it is read from the call's history.

        Raises:
            ApplicationError: of type ATTEMPT_FAILED, with FailureFacts as its details; not retryable.
            asyncio.CancelledError: the call was cancelled; the connection is closed.
        """
        async with self._heartbeats.beating() as pulse:
            outcome = await self._outcome(order, prompt, pulse)
            await self._hold()
        if isinstance(outcome, FailureFacts):
            # `from None`: litellm's exceptions must not follow into history, they hold keys.
            raise _failed(outcome) from None
        return outcome

    async def _hold(self) -> None:
        """Wait until the server can take a completion; a stopping worker tries its luck at once."""
        try:
            if not worker_stops():
                await self._server.reachable()
        except asyncio.CancelledError:
            if not worker_stops():
                raise

    async def _outcome(
        self, order: AttemptOrder, given: Prompt | PromptReference | None, pulse: Pulse
    ) -> Answer | FailureFacts:
        """An answer or the facts of a failure, with the time that it took."""
        started = time.monotonic()
        exchange = Exchange()
        if order.resume is not None:
            exchange.follow(order.resume)
            pulse.tell(AttemptHeartbeat(response_id=order.resume))
        try:
            outcome = await self._judged(order, given, exchange, pulse)
        except asyncio.CancelledError:
            if not worker_stops():
                raise
            text = "the worker was shut down during the attempt"
            outcome = FailureFacts(text=text, local_fault=LocalFault.DRAINED, request_sent=exchange.sent)
        if isinstance(outcome, FailureFacts):
            told = {"model": outcome.model or order.spec.name, "response_id": exchange.response_id}
            outcome = outcome.model_copy(update=told)
        return outcome.model_copy(update={"duration_s": round(time.monotonic() - started, 3)})

    async def _judged(
        self, order: AttemptOrder, given: Prompt | PromptReference | None, exchange: Exchange, pulse: Pulse
    ) -> Answer | FailureFacts:
        """The answer that was asked for, or facts. The timeout is the provider's: an answer that came is judged."""
        scope = asyncio.timeout(order.timeout_s)
        prompt: Prompt | None = None
        try:
            async with scope:
                prompt = await self._prompts.find(given, order.timeout_s)
                acceptance = await Acceptance.of(order.spec, prompt, self._registry, self._runner)
                outcome = await self._ask(order, prompt, exchange, pulse)
        except Exception as error:  # litellm raises classes of its own, of openai's, of httpx's and plain ones
            return self._facts_of(None if scope.expired() else error, order, prompt, exchange)
        if isinstance(outcome, FailureFacts):
            return outcome
        return await self._accepted(outcome, acceptance, exchange, prompt)

    def _facts_of(
        self, error: Exception | None, order: AttemptOrder, prompt: Prompt | None, exchange: Exchange
    ) -> FailureFacts:
        """The facts of a failure, None for the timeout; where reading them fails in turn, what is known without them.

        No exception may leave from here: Temporal would store the one that it began with, litellm's, which holds keys.
        """
        try:
            scrubber = self._scrubber(prompt)
            return facts_of(error, exchange, scrubber, _now()) if error else _timed_out(order, exchange, scrubber)
        except Exception as fault:  # a body that nobody thought of, or a fault of ours
            text = f"the failure cannot be read: {type(fault).__name__}"
            return FailureFacts(text=text, http_status=exchange.status, request_sent=exchange.sent)

    async def _accepted(
        self, answer: Answer, acceptance: Acceptance, exchange: Exchange, prompt: Prompt
    ) -> Answer | FailureFacts:
        """The answer at a size that Temporal stores, if it is the one that was asked for."""
        try:
            accepted = await acceptance.judge(answer)
        except BrokenFunctionError as error:
            return unjudged(str(error), answer, exchange, self._scrubber(prompt))
        if isinstance(accepted, Answer):
            return fitted(accepted)
        return rejected(accepted, answer, exchange, self._scrubber(prompt), _now())

    async def _ask(
        self, order: AttemptOrder, prompt: Prompt, exchange: Exchange, pulse: Pulse
    ) -> Answer | FailureFacts:
        """Check, resolve the key, send and judge."""
        spec = order.spec
        check_spec(spec, self._also_allowed)
        provider = provider_of(spec.name, spec.api_base)
        check_provider(provider, spec)
        note(provider=provider, prompt=prompt, exchange=exchange, secrets=self._keys.secrets)
        passage = self._keys.resolve(provider, spec.api_base, spec.api_key)
        exchange.only_host, exchange.forbidden = spec.api_base, passage.forbidden
        request = arguments(spec, provider, prompt, passage, all_messages=order.all_messages)
        with recording(exchange):
            if spec.responses_api:
                response = await respond(request, provider, exchange, pulse, self._scrubber(prompt))
            else:
                exchange.must_show = traces(request["messages"])
                response = await whole(await litellm.acompletion(**request))
        outcome = judge(
            response, exchange, spec.name, self._scrubber(prompt), _now(),
            asked=choices_asked(spec), previous=request.get("previous_response_id"),
        )  # fmt: skip
        return outcome.model_copy(update={"provider": provider}) if isinstance(outcome, Answer) else outcome

    def _scrubber(self, prompt: Prompt | None) -> Scrubber:
        return Scrubber(self._keys.secrets(), prompt.messages if prompt else None)


def _timed_out(order: AttemptOrder, exchange: Exchange, scrubber: Scrubber) -> FailureFacts:
    follows = exchange.response_id is not None
    received = f"; {len(exchange.raw_body)} bytes of a response had come" if exchange.raw_body and not follows else ""
    return FailureFacts(
        http_status=exchange.status,
        text=f"no answer within {order.timeout_s:g} s{received}",
        local_fault=LocalFault.TIMEOUT,
        request_id=scrubber.clean_name(request_id_of(exchange.headers) or "") or None,
        request_sent=exchange.sent,
    )


def _failed(facts: FailureFacts) -> ApplicationError:
    return ApplicationError(
        facts.headline(), facts, type=ATTEMPT_FAILED, non_retryable=True, category=ApplicationErrorCategory.BENIGN
    )


def _now() -> datetime:
    return datetime.now(UTC)
