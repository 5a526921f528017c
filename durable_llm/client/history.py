"""The ledger read from a call's history alone, for when no worker can answer a query.

Each attempt's order carries the ledger entry before it; the last attempt's own events tell the rest.
"""

from collections.abc import AsyncIterator
from datetime import UTC
from typing import TypeVar

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHandle
from temporalio.converter import DataConverter

from durable_llm.contract.attempt_failure import facts_of
from durable_llm.contract.categories import Category, Outcome
from durable_llm.contract.ledger import Attempt, bounded, bounded_entries, reason_of
from durable_llm.contract.names import ATTEMPT_ACTIVITY
from durable_llm.contract.request import AttemptOrder
from durable_llm.contract.result import Answer

_M = TypeVar("_M", AttemptOrder, Answer, str)

_ENDED_BY_FORCE = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: Outcome.CANCELLED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: Outcome.UNKNOWN,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: Outcome.UNKNOWN,
}


async def ledger_from_history(handle: WorkflowHandle[object, object], converter: DataConverter) -> list[Attempt]:
    """The call's attempts, bounded as in every ledger, from its events.

    Raises temporalio.service.RPCError as the server gives it.
    """
    reader = _Reader(converter)
    events: AsyncIterator[HistoryEvent] = handle.fetch_history_events()
    async for event in events:
        await reader.read(event)
    return bounded_entries([bounded(entry) for _, entry in sorted(reader.entries.items())])


class _Reader:
    """Folds events into entries; `entries` maps an attempt's number to its entry."""

    def __init__(self, converter: DataConverter) -> None:
        self.entries: dict[int, Attempt] = {}
        self._converter = converter
        self._number_by_event: dict[int, int] = {}

    async def read(self, event: HistoryEvent) -> None:
        match event.event_type:
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                await self._scheduled(event)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
                await self._completed(event)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED:
                failed = event.activity_task_failed_event_attributes
                await self._failed(failed.scheduled_event_id, failed.failure)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT:
                timed_out = event.activity_task_timed_out_event_attributes
                await self._failed(timed_out.scheduled_event_id, timed_out.failure)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED:
                self._cancelled(event)
            case EventType.EVENT_TYPE_TIMER_STARTED:
                await self._waiting(event)
            case kind if kind in _ENDED_BY_FORCE:
                self._close_open_entry(_ENDED_BY_FORCE[kind])

    async def _scheduled(self, event: HistoryEvent) -> None:
        scheduled = event.activity_task_scheduled_event_attributes
        if scheduled.activity_type.name != ATTEMPT_ACTIVITY:
            return
        order = await self._decode(scheduled.input.payloads[0], AttemptOrder)
        if order.previous is not None:
            self.entries[order.previous.number] = order.previous
        self._number_by_event[event.event_id] = order.number
        self.entries[order.number] = Attempt(
            number=order.number,
            model=order.spec.name,
            spec_index=order.spec_index,
            try_number=order.try_number,
            started_at=event.event_time.ToDatetime(tzinfo=UTC),
            response_id=order.resume,
        )

    async def _completed(self, event: HistoryEvent) -> None:
        done = event.activity_task_completed_event_attributes
        if done.scheduled_event_id not in self._number_by_event:
            return
        answer = await self._decode(done.result.payloads[0], Answer)
        self._update(
            done.scheduled_event_id, outcome=Outcome.ANSWERED, http_status=answer.http_status,
            duration_s=answer.duration_s, request_id=answer.request_id, response_id=answer.response_id,
            usage=answer.usage, cost=answer.cost,
        )  # fmt: skip

    async def _failed(self, scheduled_event_id: int, failure: Failure) -> None:
        """As the workflow reads it; text and details may be encrypted both."""
        number = self._number_by_event.get(scheduled_event_id)
        if number is None:
            return
        error = await self._converter.decode_failure(failure)
        facts = facts_of(error, resume=self.entries[number].response_id)
        self._update(
            scheduled_event_id, outcome=facts.outcome, http_status=facts.http_status, error_code=facts.error_code,
            message=facts.headline(), duration_s=facts.duration_s, request_id=facts.request_id,
            response_id=facts.response_id, usage=facts.usage, cost=facts.billed,
        )  # fmt: skip

    def _cancelled(self, event: HistoryEvent) -> None:
        """An attempt that was given up with its call; what it cost stays unknown."""
        number = self._number_by_event.get(event.activity_task_cancel_requested_event_attributes.scheduled_event_id)
        if number is None or (started := self.entries[number].started_at) is None:
            return
        took = event.event_time.ToDatetime(tzinfo=UTC) - started
        update = {"category": Category.CANCELLED, "duration_s": round(took.total_seconds(), 3)}
        self.entries[number] = self.entries[number].model_copy(update={"outcome": Outcome.CANCELLED, **update})

    async def _waiting(self, event: HistoryEvent) -> None:
        """A backoff timer belongs to the attempt before it; the deadline's timer starts before any attempt."""
        if not self.entries:
            return
        number = max(self.entries)
        summary = event.user_metadata.summary
        reason = reason_of(await self._decode(summary, str)) if summary.data else None
        waited = event.timer_started_event_attributes.start_to_fire_timeout.ToTimedelta()
        update = {"delay_s": waited.total_seconds(), "delay_reason": reason}
        self.entries[number] = self.entries[number].model_copy(update=update)

    def _update(self, scheduled_event_id: int, **fields: object) -> None:
        number = self._number_by_event.get(scheduled_event_id)
        if number is not None:
            self.entries[number] = self.entries[number].model_copy(update=fields)

    def _close_open_entry(self, outcome: Outcome) -> None:
        if self.entries and self.entries[number := max(self.entries)].outcome is None:
            self.entries[number] = self.entries[number].model_copy(update={"outcome": outcome})

    async def _decode(self, payload: Payload, kind: type[_M]) -> _M:
        value: _M = (await self._converter.decode([payload], [kind]))[0]
        return value
