"""What was recorded during a run: the providers' journals, the calls' histories, the times of the kills.

Everything is read at its source: the journals over llmock's HTTP, the histories as Temporal's events. The dispatcher's
client and what the job prints are not used. The ledger, in the history's last event, is compared with the rest.
"""

import json
import re
from collections.abc import Iterable
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType, TimeoutType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from durable_llm.contract.names import ATTEMPT_ACTIVITY
from tests.harness.parts.provider import journal

Ending = Literal["completed", "failed", "timed_out", "canceled"]

_ENDINGS: Final[dict[int, Ending]] = {
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED: "completed",
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED: "failed",
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT: "timed_out",
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED: "canceled",
}
_MARK: Final = re.compile(r"\[([^\]\s]+)\]")


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
    completed: bool = True
    """Whether the response went out to its end."""
    fault: str | None = None
    """What the provider did wrong on purpose, in llmock's words."""

    @property
    def served(self) -> bool:
        """Whether a whole answer went out, which is what a provider bills."""
        return self.status < 400 and self.completed


class Try(Evidence):
    """An attempt by Temporal's events."""

    model: str | None = None
    """The provider's name of the model; None when it is not known."""
    worker: int | None = None
    """Process id of the worker that took it."""
    started_at: float | None = None
    """When a worker took it; None when none did."""
    ended_at: float | None = None
    ending: Ending | None = None
    heartbeat_lost: bool = False


class Entry(Evidence):
    """An attempt by the call's ledger."""

    spec_index: int
    outcome: str | None = None
    category: str | None = None
    message: str | None = None


class Decider(Evidence):
    """A worker that took a task of the call, and has had the call in its cache since."""

    worker: int
    at: float


class History(Evidence):
    """A call by Temporal's events."""

    call_id: str
    completed: bool = False
    """Whether the call ended with a result."""
    error: str | None = None
    """The type of the error that it ended with."""
    tries: list[Try] = []
    ledger: list[Entry] = []
    deciders: list[Decider] = []
    stalled_at: list[float] = []
    """When a workflow task timed out that a worker had begun."""
    decisions_s: list[float] = []
    """Seconds from each workflow task's schedule to its completion, where no worker was killed in between."""

    @property
    def answered_at(self) -> float | None:
        """When its answer was in history."""
        return next((one.ended_at for one in self.tries if one.ending == "completed"), None)


class Kill(Evidence):
    """A SIGKILL."""

    what: Literal["worker", "job", "server"]
    pid: int
    at: float
    back_at: float | None = None
    """When it was up again; None: not recorded."""


class Case(Evidence):
    """All the evidence of one run."""

    expected: list[str]
    """Ids of the calls that the job submits."""
    requests: list[Request]
    histories: list[History]
    kills: list[Kill]


async def collect(expected: list[str], providers: list[str], kills: list[Kill], client: Client) -> Case:
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
    reading = _Reading()
    try:
        async for event in handle.fetch_history_events():
            reading.take(event)
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
        return None
    return History(call_id=call_id, tries=list(reading.tries.values()), **reading.found)


class _Reading:
    """A history as far as it has been read; `tries` by the number of the event that scheduled each."""

    def __init__(self) -> None:
        self.tries: dict[int, Try] = {}
        self.found: dict[str, Any] = {"deciders": [], "stalled_at": [], "decisions_s": []}
        self._to_decide_since = 0.0

    def take(self, event: HistoryEvent) -> None:
        """Add what is in `event`."""
        kind, attributes = event.event_type, _attributes(event)
        match kind:
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                if attributes.activity_type.name == ATTEMPT_ACTIVITY:
                    self.tries[event.event_id] = Try(model=_model(attributes.input.payloads))
            case EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
                self._update(attributes, started_at=_epoch(event), worker=_pid(attributes.identity))
            case _ if kind in _ENDINGS:
                lost = _heartbeat_lost(event)
                self._update(attributes, ended_at=_epoch(event), ending=_ENDINGS[kind], heartbeat_lost=lost)
            case EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED:
                self._to_decide_since = _epoch(event)
            case EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                self.found["decisions_s"].append(_epoch(event) - self._to_decide_since)
            case EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED:
                self.found["deciders"].append(Decider(worker=_pid(attributes.identity), at=_epoch(event)))
            case EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT:
                if attributes.timeout_type == TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE:
                    self.found["stalled_at"].append(_epoch(event))
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
                self.found |= {"completed": True, "ledger": _ledger(attributes.result.payloads)}
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
                failure = attributes.failure.application_failure_info
                self.found |= {"error": failure.type, "ledger": _ledger(failure.details.payloads)}

    def _update(self, attributes: Any, **found: Any) -> None:
        if (number := attributes.scheduled_event_id) in self.tries:
            self.tries[number] = self.tries[number].model_copy(update=found)


def _attributes(event: HistoryEvent) -> Any:
    return getattr(event, event.WhichOneof("attributes") or "", None)


def _model(order: Iterable[Payload]) -> str:
    """The model that an attempt was ordered to ask, without litellm's name of its provider."""
    name: str = json.loads(next(iter(order)).data)["spec"]["name"]
    return name.partition("/")[2]


def _ledger(payloads: Iterable[Payload]) -> list[Entry]:
    return [Entry.model_validate(entry) for payload in payloads for entry in json.loads(payload.data)["attempts"]]


def _pid(identity: str) -> int:
    return int(identity.partition("@")[0])


def _epoch(event: HistoryEvent) -> float:
    return event.event_time.ToNanoseconds() / 1e9


def _heartbeat_lost(event: HistoryEvent) -> bool:
    timed_out = event.activity_task_timed_out_event_attributes.failure.timeout_failure_info
    return timed_out.timeout_type == TimeoutType.TIMEOUT_TYPE_HEARTBEAT
