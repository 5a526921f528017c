"""A call as its history records it: every attempt's order, facts and ledger entry.

A handle reads the ledger here when no worker can answer a query. `python -m workers reclassify` reads what the policy
saw and decided. Each attempt's order carries the ledger entry before it; the last attempt's own events tell the rest.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHandle
from temporalio.converter import DataConverter
from temporalio.exceptions import ApplicationError

from durable_llm.contract.attempt_failure import facts_of_activity_failure
from durable_llm.contract.categories import Category, Outcome
from durable_llm.contract.facts import FailureFacts
from durable_llm.contract.ledger import Attempt, Ledger, bounded, bounded_entries, reason_of
from durable_llm.contract.names import ATTEMPT_ACTIVITY
from durable_llm.contract.request import AttemptOrder, CallRequest
from durable_llm.contract.result import Answer, LLMResult

_M = TypeVar("_M")

_ENDED_BY_FORCE = {
    "workflow_execution_canceled": Outcome.CANCELLED,
    "workflow_execution_terminated": Outcome.UNKNOWN,
    "workflow_execution_timed_out": Outcome.UNKNOWN,
}


async def ledger_from_history(handle: WorkflowHandle[object, object], converter: DataConverter) -> list[Attempt]:
    """The call's attempts, bounded as in every ledger, from its events.

    Raises:
        temporalio.service.RPCError: from the server, unchanged.
    """
    history = CallHistory(converter)
    events: AsyncIterator[HistoryEvent] = handle.fetch_history_events()
    async for event in events:
        await history.add(event)
    return history.ledger()


@dataclass
class RecordedAttempt:
    """One attempt as its own events record it."""

    order: AttemptOrder
    entry: Attempt
    """Its ledger entry as far as its own events tell; `CallHistory.written` may have the workflow's own."""
    facts: FailureFacts | None = None
    """The facts of its failure; None if it did not fail."""
    decided_at: datetime | None = None
    """The call's clock when the workflow decided about the failure; None if it has not."""

    def update(self, fields: dict[str, Any]) -> None:
        """Change fields of the entry."""
        self.entry = self.entry.model_copy(update=fields)


@dataclass
class CallHistory:
    """Folds the events of one call's history, added in their order."""

    converter: DataConverter
    attempts: dict[int, RecordedAttempt] = field(default_factory=dict)
    """By the attempt's number."""
    written: dict[int, Attempt] = field(default_factory=dict)
    """Ledger entries that the workflow wrote into later orders, by the attempt's number."""
    started: HistoryEvent | None = None
    ended: HistoryEvent | None = None
    markers: list[bytes] = field(default_factory=list)
    """Contents of the markers; workflow patches are markers."""
    _by_event: dict[int, RecordedAttempt] = field(default_factory=dict)
    _undecided: list[RecordedAttempt] = field(default_factory=list)

    async def add(self, event: HistoryEvent) -> None:
        """Read the next event.

        Raises:
            ValueError, LookupError, RuntimeError: it cannot be decoded.
        """
        attributes: Any = getattr(event, name) if (name := event.WhichOneof("attributes")) else None
        kind = (name or "").removesuffix("_event_attributes")
        match kind:
            case "workflow_execution_started":
                self.started = event
                if attributes.continued_execution_run_id:
                    await self._continued(attributes.input.payloads[0])
            case "marker_recorded":
                details = attributes.details.values()
                self.markers += [payload.data for payloads in details for payload in payloads.payloads]
            case "workflow_task_started":  # its start is the call's clock
                for attempt in self._undecided:
                    attempt.decided_at = _moment(event.event_time)
            case "workflow_task_completed":
                self._undecided.clear()
            case "workflow_execution_completed" | "workflow_execution_failed":
                self.ended = event
            case _:
                await self._add_to_attempts(kind, event, attributes)

    async def _add_to_attempts(self, kind: str, event: HistoryEvent, attributes: Any) -> None:
        match kind:
            case "activity_task_scheduled" if attributes.activity_type.name == ATTEMPT_ACTIVITY:
                await self._scheduled(event, attributes.input.payloads[0])
            case "activity_task_completed" if attempt := self._by_event.get(attributes.scheduled_event_id):
                answer = await self._decode(attributes.result.payloads[0], Answer)
                attempt.update(answer.entry_fields())
            case "activity_task_failed" | "activity_task_timed_out":
                await self._failed(attributes.scheduled_event_id, attributes.failure)
            case "activity_task_cancel_requested" if attempt := self._by_event.get(attributes.scheduled_event_id):
                took = _moment(event.event_time) - (attempt.entry.started_at or _moment(event.event_time))
                cancelled = {"outcome": Outcome.CANCELLED, "category": Category.CANCELLED}  # its cost stays unknown
                attempt.update({**cancelled, "duration_s": round(took.total_seconds(), 3)})
            case "timer_started" if self.attempts or self.written:  # the deadline's timer starts before any attempt
                summary = event.user_metadata.summary
                reason = reason_of(await self._decode(summary, str)) if summary.data else None
                self._waits(attributes.start_to_fire_timeout.ToTimedelta().total_seconds(), reason)
            case forced if forced in _ENDED_BY_FORCE and self.attempts and self._last.entry.outcome is None:
                self._last.update({"outcome": _ENDED_BY_FORCE[forced]})

    def ledger(self) -> list[Attempt]:
        """The call's attempts, bounded as in every ledger."""
        entries = {**{number: attempt.entry for number, attempt in self.attempts.items()}, **self.written}
        return bounded_entries([bounded(entry) for _, entry in sorted(entries.items())])

    async def final_entries(self) -> dict[int, Attempt]:
        """Ledger entries in the call's result or error, by the attempt's number.

        Raises:
            ValueError, LookupError, RuntimeError: they cannot be decoded.
        """
        entries: list[Attempt] = []
        if self.ended is not None and self.ended.HasField("workflow_execution_completed_event_attributes"):
            result = self.ended.workflow_execution_completed_event_attributes.result.payloads[0]
            entries = (await self._decode(result, LLMResult)).attempts
        elif self.ended is not None:
            failure = self.ended.workflow_execution_failed_event_attributes.failure
            error = await self.converter.decode_failure(failure)
            if isinstance(error, ApplicationError) and error.details:
                entries = Ledger.model_validate(error.details[0]).attempts
        return {entry.number: entry for entry in entries}

    @property
    def _last(self) -> RecordedAttempt:
        return self.attempts[max(self.attempts)]

    def _waits(self, seconds: float, reason: str | None) -> None:
        """Record a wait after the last attempt, or the rest of one that began in the call's previous run."""
        if self.attempts:
            self._last.update({"delay_s": seconds, "delay_reason": reason})
        elif reason:  # the deadline's timer has none
            last = self.written[max(self.written)]
            seconds = round((last.delay_s or 0.0) + seconds, 3)
            self.written[last.number] = last.model_copy(update={"delay_s": seconds})

    async def _continued(self, payload: Payload) -> None:
        """Take the ledger of the call's previous runs."""
        request = await self._decode(payload, CallRequest)
        if request.carried is not None:
            self.written = {entry.number: entry for entry in request.carried.ledger.attempts}

    async def _scheduled(self, event: HistoryEvent, payload: Payload) -> None:
        order = await self._decode(payload, AttemptOrder)
        if order.previous is not None:
            self.written[order.previous.number] = order.previous
        entry = Attempt(
            number=order.number, model=order.spec.name, spec_index=order.spec_index, try_number=order.try_number,
            started_at=_moment(event.event_time), response_id=order.resume,
        )  # fmt: skip
        self.attempts[order.number] = self._by_event[event.event_id] = RecordedAttempt(order, entry)

    async def _failed(self, scheduled_event_id: int, failure: Failure) -> None:
        if attempt := self._by_event.get(scheduled_event_id):
            error = await self.converter.decode_failure(failure)
            attempt.facts = facts_of_activity_failure(error, attempt.order)
            attempt.update(attempt.facts.entry_fields())
            self._undecided.append(attempt)

    async def _decode(self, payload: Payload, kind: type[_M]) -> _M:
        value: _M = (await self.converter.decode([payload], [kind]))[0]
        return value


def _moment(at: Timestamp) -> datetime:
    return at.ToDatetime(tzinfo=UTC)
