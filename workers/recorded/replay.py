"""`python -m workers replay`: recorded calls, run again with the installed code.

A worker that takes over a running call replays its history. If its code would issue other commands than the history
has, the call is stuck until its deadline. This command shows that before a deployment.
"""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory
from temporalio.converter import DataConverter
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from durable_llm.contract.names import WORKFLOW

from ..rooms.workflows import LLMCall
from .histories import Histories, chosen


@dataclass(frozen=True)
class Replayed:
    """One call, run again."""

    call_id: str
    fault: str | None
    """Why this code cannot continue the call; None: it can."""


@dataclass
class Report:
    """The result for all recorded calls."""

    calls: list[Replayed] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    @property
    def broken(self) -> list[Replayed]:
        """The calls that this code would leave stuck."""
        return [call for call in self.calls if call.fault is not None]


async def replay(histories: Histories, converter: DataConverter, workflow: type = LLMCall) -> Report:
    """Replay every history with `workflow`.

    Raises:
        DurableLLMError: as `histories` does.
    """
    report = Report()
    replayer = Replayer(
        workflows=[workflow],
        data_converter=converter,
        workflow_runner=UnsandboxedWorkflowRunner(),
        runtime=Runtime(telemetry=TelemetryConfig(logging=None)),  # the SDK's own log would go to stdout
    )
    async with replayer.workflow_replay_iterator(_calls(histories, report.unreadable)) as results:
        async for result in results:
            report.calls.append(Replayed(result.history.workflow_id, _fault(result.replay_failure)))
    return report


async def _calls(histories: Histories, unreadable: list[str]) -> AsyncIterator[WorkflowHistory]:
    """The histories of calls; the text for anything else goes to `unreadable`."""
    async for history in histories:
        if isinstance(history, str):
            unreadable.append(history)
            continue
        first = next(iter(history.events), HistoryEvent())
        kind = first.workflow_execution_started_event_attributes.workflow_type.name
        if kind != WORKFLOW:
            unreadable.append(f"{history.workflow_id}: is a {kind or 'fragment'}, not a {WORKFLOW}")
        else:
            yield history


def _fault(failure: BaseException | None) -> str | None:
    if failure is None:
        return None
    lines = str(failure).splitlines()
    return f"{type(failure).__name__}: {lines[0] if lines else ''}"


async def run_replay(paths: Sequence[Path], query: str | None, limit: int, *, as_json: bool) -> int:
    """Print the result for each call; the status is 1 if one does not replay or could not be read.

    Raises:
        DurableLLMError: no server, or it refused the query.
    """
    report = await replay(*await chosen(paths, query, limit))
    if as_json:
        print(json.dumps(asdict(report), indent=2))
    else:
        show(report)
    return 1 if report.broken or report.unreadable else 0


def show(report: Report) -> None:
    """Print the report for people: a line for each call, then the total."""
    for call in report.calls:
        print(f"{call.call_id}: {call.fault or 'replays'}")
    for line in report.unreadable:
        print(f"not read: {line}")
    print(f"{len(report.calls) - len(report.broken)} of {len(report.calls)} calls replay with this code")
