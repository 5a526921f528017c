"""The activities of a provider's batch.

A line's request is what its attempt would have sent, and its response is read as the attempt would have read it. So
facts, checks, costs and the ledger are the same as of any attempt, at half the price.
"""

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import httpx
from temporalio import activity
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from durable_llm.contract.attempt_failure import failure_of
from durable_llm.contract.facts import FailureFacts, LocalFault, Sent
from durable_llm.contract.names import (
    CANCEL_BATCH_ACTIVITY,
    COLLECT_SIGNAL,
    COLLECTOR_WORKFLOW,
    POLL_BATCH_ACTIVITY,
    SEND_BATCH_ACTIVITY,
    SETTLE_BATCH_ACTIVITY,
)
from durable_llm.contract.quotas import account_of
from durable_llm.contract.request import AttemptOrder, BatchLine, Prompt, SentBatch
from durable_llm.contract.result import Answer

from ..faults import LocalFaultError
from ..quota.budgets import settle_money
from .api import BatchApi, Result, api_of

SHARE_OF_PRICE: Final = 0.5
"""What OpenAI and Anthropic ask for a line of a batch, of the price of a live request."""

WINDOW_S: Final = 60.0
"""Seconds that a batch waits for more lines."""

_MAY_BE_SENT: Final = frozenset({LocalFault.LOST, LocalFault.DISCONNECTED})
_ANY_PROMPT: Final = Prompt(messages=[{"role": "user", "content": "Hi"}])


async def join_batch(order: AttemptOrder, window_s: float) -> None:
    """Give the running attempt to the collector of its account and model, which ends it later."""
    info, spec = activity.info(), order.spec
    line = BatchLine(
        call_id=info.workflow_id or "", run_id=info.workflow_run_id or "", activity_id=info.activity_id,
        order=order.model_copy(update={"previous": None}), asked_at=info.started_time, window_s=window_s,
    )  # fmt: skip
    await activity.client().start_workflow(
        COLLECTOR_WORKFLOW, id=f"batches/{spec.name}/{account_of(spec)}", task_queue=info.task_queue,
        start_signal=COLLECT_SIGNAL, start_signal_args=[line], id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
    )  # fmt: skip


class Attempts(Protocol):
    """What a batch needs of the attempts of a worker."""

    async def capture(self, order: AttemptOrder, prompt: Prompt) -> httpx.Request | FailureFacts:
        """The request that the attempt would send."""
        ...

    async def replay(self, order: AttemptOrder, prompt: Prompt, response: httpx.Response) -> Answer | FailureFacts:
        """What the attempt makes of a response."""
        ...

    async def prompt_of(self, call_id: str, run_id: str) -> Prompt:
        """The prompt of a call."""
        ...


class ProviderBatches:
    """The activities of batches, with one worker's keys.

    Args:
        attempts: Makes a line's request, and reads its response.
    """

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts

    @activity.defn(name=SEND_BATCH_ACTIVITY)
    async def send(self, lines: list[BatchLine]) -> SentBatch:
        """Send the batch, without the lines whose calls are gone. Why it could not be sent is told, not raised."""
        bodies: dict[int, Any] = {}
        for place, line in enumerate(lines):
            activity.heartbeat()
            with suppress(LocalFaultError):
                captured = await self._attempts.capture(line.order, await self._prompt(line))
                if isinstance(captured, httpx.Request):
                    bodies[place] = json.loads(captured.content)
        try:
            return await (await self._api(lines[0])).create(bodies)
        except LocalFaultError as error:
            return SentBatch(fault=error.fault, text=str(error))
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return SentBatch(fault=LocalFault.CONNECT, text=f"the batch could not be sent: {type(error).__name__}")
        except httpx.HTTPError as error:
            return SentBatch(fault=LocalFault.DISCONNECTED, text=f"the batch was sent: {type(error).__name__}")

    @activity.defn(name=POLL_BATCH_ACTIVITY)
    async def poll(self, line: BatchLine, sent: SentBatch) -> bool:
        """Whether the batch has ended."""
        return await (await self._api(line)).has_ended(sent.batch_id or "")

    @activity.defn(name=CANCEL_BATCH_ACTIVITY)
    async def cancel(self, line: BatchLine, sent: SentBatch) -> None:
        """Ask the provider to stop."""
        await (await self._api(line)).cancel(sent.batch_id or "")

    @activity.defn(name=SETTLE_BATCH_ACTIVITY)
    async def settle(self, lines: list[BatchLine], sent: SentBatch) -> None:
        """End the attempts of all lines."""
        results = {} if sent.batch_id is None else await (await self._api(lines[0])).results(sent.batch_id)
        for place, line in enumerate(lines):
            activity.heartbeat()
            await self._end(line, await self._outcome(line, sent, results.get(place)))

    async def _outcome(self, line: BatchLine, sent: SentBatch, result: Result | None) -> Answer | FailureFacts:
        """What the line's attempt has ended with."""
        if sent.fault is not None:
            was_sent = Sent.UNKNOWN if sent.fault in _MAY_BE_SENT else Sent.NO
            return FailureFacts(local_fault=sent.fault, text=sent.text, request_sent=was_sent)
        if result is not None:
            response = httpx.Response(result.status, headers={"content-type": "application/json"}, content=result.body)
        elif sent.batch_id is None:
            response = httpx.Response(sent.status, headers=_kept(sent), content=sent.body.encode())
        else:
            text = "the provider's batch has ended without this line"
            return FailureFacts(local_fault=LocalFault.TIMEOUT, text=text, request_sent=Sent.NO)
        try:
            outcome = await self._attempts.replay(line.order, await self._prompt(line), response)
        except LocalFaultError as error:  # the prompt cannot be read any more
            return FailureFacts(local_fault=error.fault, text=str(error), request_sent=Sent.YES)
        waited = (datetime.now(UTC) - line.asked_at).total_seconds()
        cost = None if outcome.cost is None else outcome.cost * SHARE_OF_PRICE
        return outcome.model_copy(update={"duration_s": round(waited, 3), "cost": cost})

    async def _end(self, line: BatchLine, outcome: Answer | FailureFacts) -> None:
        """End the attempt. One that nobody waits for any more is left alone."""
        await settle_money(line.order, line.call_id, outcome, line.asked_at)
        handle = activity.client().get_async_activity_handle(
            workflow_id=line.call_id, run_id=line.run_id, activity_id=line.activity_id
        )
        try:
            if isinstance(outcome, FailureFacts):
                await handle.fail(failure_of(outcome))
            else:
                await handle.complete(outcome)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise

    async def _api(self, line: BatchLine) -> BatchApi:
        """The provider's Batch API, with the key of a line's spec. It does not depend on the line's call.

        Raises:
            LocalFaultError: this worker lacks the key, or may not ask the address.
        """
        captured = await self._attempts.capture(line.order, _ANY_PROMPT)
        if isinstance(captured, FailureFacts):
            fault = LocalFault(captured.local_fault or LocalFault.UNSUPPORTED)
            raise LocalFaultError(fault, f"this worker cannot ask for the batch: {captured.text}")
        return api_of(captured)

    async def _prompt(self, line: BatchLine) -> Prompt:
        return await self._attempts.prompt_of(line.call_id, line.run_id)


def _kept(sent: SentBatch) -> dict[str, str]:
    """Headers of a refusal that say something about it, and nothing about its framing."""
    dropped = ("content-length", "content-encoding", "transfer-encoding")
    return {name: value for name, value in sent.headers.items() if name.lower() not in dropped}
