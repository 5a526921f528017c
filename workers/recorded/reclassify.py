"""`python -m workers reclassify`: recorded calls, decided again by today's policy.

It shows an operator what a change of the policy would have done: each failed attempt that today's policy would classify
or answer differently. Each attempt is decided at the point where the recorded call was; what would have followed
another decision is unknown.
"""

import json
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from temporalio.client import WorkflowHistory
from temporalio.converter import DataConverter

from durable_llm.client.history import CallHistory
from durable_llm.contract.facts import FailureFacts
from durable_llm.contract.ledger import Attempt
from durable_llm.contract.names import WORKFLOW
from durable_llm.contract.request import AttemptOrder, CallRequest

from ..rooms.workflows import CURRENT, FIRST, PROGRESS_ON_WIRE, VERSIONS, Decision, PolicyVersion, Progress
from .histories import chosen

_POLICY_MARKER: Final = re.compile(rb"policy-(\d+)")


class NotACallError(ValueError):
    """A history does not belong to a call of this package."""


@dataclass(frozen=True)
class PolicyDecision:
    """What a policy said that a failure is, and what it decided."""

    category: str
    decision: str
    rule: str

    def agrees(self, other: "PolicyDecision") -> bool:
        """Whether both lead to the same; another rule with the same result makes no difference."""
        return (self.category, self.decision) == (other.category, other.decision)

    def __str__(self) -> str:
        return f"{self.category} -> {self.decision} ({self.rule})"


@dataclass(frozen=True)
class RecordedFailure:
    """One failed attempt that the workflow decided about."""

    order: AttemptOrder
    facts: FailureFacts
    decided_at: datetime
    decision: PolicyDecision | None
    """None if the call ended before it wrote a ledger entry."""


@dataclass(frozen=True)
class RecordedCall:
    """One call's failures, in their order."""

    call_id: str
    request: CallRequest
    deadline: datetime
    policy_version: int
    failures: list[RecordedFailure]


@dataclass(frozen=True)
class Difference:
    """One attempt that today's policy decides differently."""

    call_id: str
    attempt: int
    model: str
    message: str
    recorded: PolicyDecision
    today: PolicyDecision


@dataclass(frozen=True)
class Report:
    """The result for all recorded calls."""

    calls: int
    attempts: int
    """Failed attempts with a recorded decision."""
    differences: list[Difference]
    unreadable: list[str]


async def read_call(history: WorkflowHistory, converter: DataConverter) -> RecordedCall:
    """The call that `history` records.

    Raises:
        ValueError, LookupError, RuntimeError: it is not a call's history, or its payloads cannot be decoded.
    """
    recorded = CallHistory(converter)
    for event in history.events:
        await recorded.add(event)
    if recorded.started is None:
        raise NotACallError(f"is not the history of a {WORKFLOW}")
    started = recorded.started.workflow_execution_started_event_attributes
    if started.workflow_type.name != WORKFLOW:
        raise NotACallError(f"is a {started.workflow_type.name}, not a {WORKFLOW}")
    request: CallRequest = (await converter.decode([started.input.payloads[0]], [CallRequest]))[0]
    after = timedelta(seconds=request.deadline_after_s or 86_400)
    deadline = request.deadline_at or recorded.started.event_time.ToDatetime(tzinfo=UTC) + after
    entries = {**await recorded.final_entries(), **recorded.written}
    failures = [
        RecordedFailure(attempt.order, attempt.facts, attempt.decided_at, _recorded(entries.get(number)))
        for number, attempt in sorted(recorded.attempts.items())
        if attempt.facts is not None and attempt.decided_at is not None
    ]
    stamped = [int(found[1]) for data in recorded.markers if (found := _POLICY_MARKER.search(data))]
    versions = [request.carried.policy_version if request.carried else FIRST, *stamped]
    return RecordedCall(
        call_id=started.workflow_id or history.workflow_id,
        request=request,
        deadline=deadline if deadline.tzinfo else deadline.replace(tzinfo=UTC),
        policy_version=versions[-1],
        failures=failures,
    )


def _recorded(entry: Attempt | None) -> PolicyDecision | None:
    if entry is None or entry.decision is None:  # it was cancelled before the policy decided
        return None
    return PolicyDecision(str(entry.category), str(entry.decision), entry.rule or "")


def differences(call: RecordedCall, today: PolicyVersion = VERSIONS[CURRENT]) -> list[Difference]:
    """Where `today` would decide differently from `call`."""
    found = []
    for failure, progress, remaining_s in _stages(call):
        decision = today.decide(failure.facts, progress, call.request.policy, remaining_s)
        ours = PolicyDecision(decision.category, decision.action, decision.rule)
        if failure.decision is not None and not ours.agrees(failure.decision):
            number, model = failure.order.number, failure.order.spec.name
            found.append(Difference(call.call_id, number, model, failure.facts.headline(), failure.decision, ours))
    return found


def _stages(call: RecordedCall) -> Iterable[tuple[RecordedFailure, Progress, float]]:
    """Each failure, where the call was then, and the seconds that were left.

    The policy version of the call itself says how it continued.
    """
    version = VERSIONS.get(call.policy_version, VERSIONS[CURRENT])
    progress = Progress(budgets=tuple(spec.max_retries for spec in call.request.models))
    if call.request.carried is not None:
        progress = PROGRESS_ON_WIRE.validate_python(call.request.carried.progress)
    for failure in call.failures:
        progress = _at(progress, failure.order)
        remaining_s = (call.deadline - failure.decided_at).total_seconds()
        yield failure, progress, remaining_s
        decision: Decision = version.decide(failure.facts, progress, call.request.policy, remaining_s)
        progress = decision.progress


def _at(progress: Progress, order: AttemptOrder) -> Progress:
    """`progress`, unless the order shows that the call was elsewhere: then a version that we do not know decided."""
    if (order.spec_index, order.try_number, order.number) == (
        progress.spec_index, progress.tries + 1, progress.attempts + 1,
    ):  # fmt: skip
        return progress
    tries = order.try_number - 1
    return replace(progress, spec_index=order.spec_index, tries=tries, retries=tries, attempts=order.number - 1)


async def reclassify(histories: AsyncIterator[WorkflowHistory | str], converter: DataConverter) -> Report:
    """Decide every history again; a text stands for one that could not be read."""
    calls, attempts, found, unreadable = 0, 0, [], []
    async for history in histories:
        if isinstance(history, str):
            unreadable.append(history)
            continue
        try:
            call = await read_call(history, converter)
        except NotACallError as error:
            unreadable.append(f"{history.workflow_id}: {error}")
            continue
        except (ValueError, LookupError, RuntimeError) as error:
            unreadable.append(f"{history.workflow_id}: cannot be decoded: {type(error).__name__}")
            continue
        calls += 1
        attempts += sum(failure.decision is not None for failure in call.failures)
        found += differences(call)
    return Report(calls, attempts, found, unreadable)


async def run_reclassify(paths: Sequence[Path], query: str | None, limit: int, *, as_json: bool) -> int:
    """Print the report; the status is 1 if a history could not be read.

    Raises:
        DurableLLMError: no server, or it refused the query.
    """
    report = await reclassify(*await chosen(paths, query, limit))
    if as_json:
        print(json.dumps(asdict(report), indent=2))
    else:
        show(report, Console())
    return 1 if report.unreadable else 0


def show(report: Report, console: Console) -> None:
    """Print the report for people."""
    if report.differences:
        table = Table("call", "#", "model", "failure", "recorded", "today")
        for row in report.differences:
            cells = (row.call_id, row.attempt, row.model, row.message, row.recorded, row.today)
            table.add_row(*(escape(str(cell)) for cell in cells))
        console.print(table)
    console.print(
        f"{len(report.differences)} of {report.attempts} decisions in {report.calls} calls would be different under "
        f"policy version {CURRENT}",
        highlight=False,
    )
    for line in report.unreadable:
        console.print(f"not read: {line}", style="yellow", markup=False)
