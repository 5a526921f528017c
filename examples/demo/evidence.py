"""What was written down while the demo ran: the providers' journals, the calls' histories, the times of the kills.

Everything is read from who wrote it first, by means of their own: the journals over llmock's HTTP, the histories as
Temporal's events. Nothing of the dispatcher's client, ledger or results takes part, and nothing that the job says.
"""

import re
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict
from temporalio.api.enums.v1 import EventType, TimeoutType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from durable_llm.names import ATTEMPT_ACTIVITY
from examples.demo.provider import journal

Ending = Literal["completed", "failed", "timed_out", "canceled"]

_ENDINGS: Final[dict[int, Ending]] = {
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED: "completed",
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED: "failed",
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT: "timed_out",
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED: "canceled",
}
_MARK: Final = re.compile(r"\[(demo-[^\]]+)\]")


class Evidence(BaseModel):
    """Base of what was found; times are seconds since the epoch."""

    model_config = ConfigDict(frozen=True)


class Request(Evidence):
    """A request as the provider saw it."""

    call_id: str | None
    """The id that its prompt begins with."""
    provider: str
    model: str | None
    started_at: float
    ended_at: float
    status: int
    retry_after: float | None = None


class Try(Evidence):
    """An attempt as Temporal's events tell it."""

    started_at: float | None = None
    """When a worker took it; None when none did."""
    ended_at: float | None = None
    ending: Ending | None = None
    heartbeat_lost: bool = False


class History(Evidence):
    """A call as Temporal's events tell it."""

    call_id: str
    completed: bool = False
    """Whether the call ended with a result."""
    tries: list[Try] = []


class Kill(Evidence):
    """A SIGKILL by the director."""

    what: Literal["worker", "job"]
    pid: int
    at: float


class Case(Evidence):
    """All the evidence of one run."""

    expected: list[str]
    """Ids of the calls that the job submits."""
    requests: list[Request]
    histories: list[History]
    kills: list[Kill]


async def gather(expected: list[str], providers: list[str], kills: list[Kill], client: Client) -> Case:
    """Read the journals of the `providers` (their addresses), the histories."""
    requests = [_request(record) for root in providers for record in await journal(root)]
    return Case(
        expected=expected,
        requests=sorted(requests, key=lambda request: request.started_at),
        histories=[found for call_id in expected if (found := await _history(client, call_id))],
        kills=kills,
    )


def _request(record: dict[str, Any]) -> Request:
    return Request.model_validate({**record, "call_id": _marked(record["body"])})


def _marked(body: Any) -> str | None:
    """The id at the beginning of the first message; later ones may quote other steps."""
    content = body["messages"][0]["content"] if isinstance(body, dict) and body.get("messages") else ""
    found = _MARK.match(content if isinstance(content, str) else "".join(part.get("text", "") for part in content))
    return found[1] if found else None


async def _history(client: Client, call_id: str) -> History | None:
    """The call's history; None when there is no such call."""
    handle: WorkflowHandle[Any, Any] = client.get_workflow_handle(call_id)
    tries: dict[int, Try] = {}
    completed = False
    try:
        async for event in handle.fetch_history_events():
            completed = completed or event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED
            _fold(event, tries)
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
        return None
    return History(call_id=call_id, completed=completed, tries=list(tries.values()))


def _fold(event: HistoryEvent, tries: dict[int, Try]) -> None:
    """Add what `event` tells about an attempt; `tries` has them by the number of the event that scheduled each."""
    match event.event_type:
        case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            if event.activity_task_scheduled_event_attributes.activity_type.name == ATTEMPT_ACTIVITY:
                tries[event.event_id] = Try()
        case EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
            _update(tries, event, started_at=_epoch(event))
        case kind if kind in _ENDINGS:
            _update(tries, event, ended_at=_epoch(event), ending=_ENDINGS[kind], heartbeat_lost=_heartbeat_lost(event))


def _update(tries: dict[int, Try], event: HistoryEvent, **found: Any) -> None:
    number = getattr(event, event.WhichOneof("attributes") or "").scheduled_event_id
    if number in tries:
        tries[number] = tries[number].model_copy(update=found)


def _epoch(event: HistoryEvent) -> float:
    return event.event_time.ToNanoseconds() / 1e9


def _heartbeat_lost(event: HistoryEvent) -> bool:
    timed_out = event.activity_task_timed_out_event_attributes.failure.timeout_failure_info
    return timed_out.timeout_type == TimeoutType.TIMEOUT_TYPE_HEARTBEAT
