"""Recorded calls as the policy sees them: the request, and each failed attempt with its facts and its verdict.

A history has all of it: the facts are the failure details of each attempt, the verdict is in the order of the attempt
that followed, and the last one in what the call ended with.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory
from temporalio.converter import DataConverter
from temporalio.exceptions import ApplicationError

from durable_llm.contract.attempt_failure import facts_of
from durable_llm.contract.facts import FailureFacts
from durable_llm.contract.ledger import Attempt, Ledger
from durable_llm.contract.names import ATTEMPT_ACTIVITY, WORKFLOW
from durable_llm.contract.request import AttemptOrder, CallRequest
from durable_llm.contract.result import LLMResult

from ..rooms.workflows import FIRST

_T = TypeVar("_T")
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
_VERSION: Final = re.compile(rb"policy-(\d+)")


class UnreadableCallError(ValueError):
    """A history is none of a call of ours, or cannot be decoded."""


@dataclass(frozen=True)
class RecordedFailure:
    """One failed attempt."""

    order: AttemptOrder
    facts: FailureFacts
    decided_at: datetime | None = None
    """None when nothing has been decided yet."""
    entry: Attempt | None = None
    """Its entry in the ledger; None when the call had no time to write one."""


@dataclass(frozen=True)
class RecordedCall:
    """One call's failures, in their order."""

    call_id: str
    request: CallRequest
    deadline: datetime
    policy_version: int
    failures: list[RecordedFailure]


async def read_call(history: WorkflowHistory, converter: DataConverter) -> RecordedCall:
    """What `history` says.

    Raises:
        UnreadableCallError: it is no call's history, or its payloads cannot be decoded.
    """
    reader = _Reader(converter)
    try:
        for event in history.events:
            await reader.read(event)
        return reader.call(history.workflow_id)
    except UnreadableCallError as error:
        raise UnreadableCallError(f"{history.workflow_id}: {error}") from None
    except (ValueError, LookupError, RuntimeError) as error:
        raise UnreadableCallError(f"{history.workflow_id}: cannot be decoded: {type(error).__name__}") from error


@dataclass
class _Reader:
    converter: DataConverter
    request: CallRequest | None = None
    call_id: str = ""
    started_at: datetime = _LONG_AGO
    version: int = FIRST
    orders: dict[int, AttemptOrder] = field(default_factory=dict)
    failures: dict[int, RecordedFailure] = field(default_factory=dict)
    undecided: set[int] = field(default_factory=set)
    entries: dict[int, Attempt] = field(default_factory=dict)

    def call(self, call_id: str) -> RecordedCall:
        if self.request is None:
            raise UnreadableCallError(f"is no history of a {WORKFLOW}")
        after = timedelta(seconds=self.request.deadline_after_s or 86_400)
        failures = [replace(self.failures[n], entry=self.entries.get(n)) for n in sorted(self.failures)]
        deadline = self.request.deadline_at or self.started_at + after
        deadline = deadline if deadline.tzinfo else deadline.replace(tzinfo=UTC)
        return RecordedCall(self.call_id or call_id, self.request, deadline, self.version, failures)

    async def read(self, event: HistoryEvent) -> None:
        kind = event.WhichOneof("attributes") or ""
        attributes: Any = getattr(event, kind, None)
        match kind.removesuffix("_event_attributes"):
            case "workflow_execution_started":
                await self._started(attributes, event.event_time)
            case "marker_recorded":
                self._marked(attributes.details.values())
            case "activity_task_scheduled" if attributes.activity_type.name == ATTEMPT_ACTIVITY:
                await self._scheduled(event.event_id, attributes.input.payloads[0])
            case "activity_task_failed" | "activity_task_timed_out":
                await self._failed(attributes.scheduled_event_id, attributes.failure)
            case "workflow_task_started":
                self._decided(event.event_time.ToDatetime(tzinfo=UTC))
            case "workflow_task_completed":
                self.undecided.clear()
            case "workflow_execution_completed":
                self._keep((await self._decode(attributes.result.payloads[0], LLMResult)).attempts)
            case "workflow_execution_failed":
                await self._ended(attributes.failure)

    async def _started(self, attributes: Any, at: Timestamp) -> None:
        if attributes.workflow_type.name != WORKFLOW:
            raise UnreadableCallError(f"is a {attributes.workflow_type.name}, not a {WORKFLOW}")
        self.call_id, self.started_at = attributes.workflow_id, at.ToDatetime(tzinfo=UTC)
        self.request = await self._decode(attributes.input.payloads[0], CallRequest)

    def _marked(self, details: Iterable[Any]) -> None:
        """Workflow patches are markers; the policy's name its version."""
        for payloads in details:
            for payload in payloads.payloads:
                if found := _VERSION.search(payload.data):
                    self.version = int(found[1])

    async def _scheduled(self, event_id: int, payload: Payload) -> None:
        order = self.orders[event_id] = await self._decode(payload, AttemptOrder)
        if order.previous is not None:
            self._keep([order.previous])

    async def _failed(self, scheduled_event_id: int, failure: Failure) -> None:
        order = self.orders.get(scheduled_event_id)
        if order is None:
            return
        facts = facts_of(await self.converter.decode_failure(failure), order.resume)
        self.failures[order.number] = RecordedFailure(order, facts)
        self.undecided.add(order.number)

    def _decided(self, at: datetime) -> None:
        """A workflow task judges what came before it; its start is the call's clock."""
        for number in self.undecided:
            self.failures[number] = replace(self.failures[number], decided_at=at)

    async def _ended(self, failure: Failure) -> None:
        error = await self.converter.decode_failure(failure)
        if isinstance(error, ApplicationError) and error.details:
            self._keep(Ledger.model_validate(error.details[0]).attempts)

    def _keep(self, entries: Iterable[Attempt]) -> None:
        for entry in entries:
            self.entries.setdefault(entry.number, entry)

    async def _decode(self, payload: Payload, kind: type[_T]) -> _T:
        value: _T = (await self.converter.decode([payload], [kind]))[0]
        return value
