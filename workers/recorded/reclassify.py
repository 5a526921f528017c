"""`python -m workers reclassify`: recorded calls, judged again by today's policy.

An operator who wonders what a change of the policy would have done sees here each attempt that would now be judged or
followed otherwise. Each is judged where the recorded call stood at that moment: what would have come after another
decision, nobody knows.
"""

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from temporalio.client import WorkflowHistory
from temporalio.converter import DataConverter

from ..rooms.workflows import CURRENT, VERSIONS, Decision, PolicyVersion, Progress
from .calls import RecordedCall, RecordedFailure, UnreadableCallError, read_call
from .histories import chosen


@dataclass(frozen=True)
class Judgement:
    """What a failure was said to be, and what followed."""

    category: str
    decision: str
    rule: str

    def agrees(self, other: "Judgement") -> bool:
        """Whether both lead to the same; another rule that says the same is no other judgement."""
        return (self.category, self.decision) == (other.category, other.decision)


@dataclass(frozen=True)
class Difference:
    """One attempt that today's policy judges otherwise."""

    call_id: str
    attempt: int
    model: str
    message: str
    recorded: Judgement
    today: Judgement


@dataclass(frozen=True)
class Report:
    """What came of all recorded calls."""

    calls: int
    attempts: int
    """Failed attempts with a recorded judgement."""
    differences: list[Difference]
    unreadable: list[str]


def differences(call: RecordedCall, today: PolicyVersion = VERSIONS[CURRENT]) -> list[Difference]:
    """Where `today` would decide otherwise than `call` did."""
    found = []
    for failure, progress, remaining_s in _stages(call):
        recorded = _recorded(failure)
        verdict, decision = today.judge(failure.facts, progress, call.request.policy, remaining_s)
        judged = Judgement(verdict.category, decision.action, decision.rule)
        if recorded is not None and not judged.agrees(recorded):
            number, model = failure.order.number, failure.order.spec.name
            found.append(Difference(call.call_id, number, model, failure.facts.headline(), recorded, judged))
    return found


def _stages(call: RecordedCall) -> Iterable[tuple[RecordedFailure, Progress, float]]:
    """Each decided failure, where the call stood, and the seconds that were left.

    The call's own version of the policy says how it went on from there.
    """
    its_own = VERSIONS.get(call.policy_version, VERSIONS[CURRENT])
    progress = Progress(budgets=tuple(spec.max_retries for spec in call.request.models))
    for failure in call.failures:
        if failure.decided_at is None:
            return
        progress = _at(progress, failure)
        remaining_s = (call.deadline - failure.decided_at).total_seconds()
        yield failure, progress, remaining_s
        decision: Decision = its_own.judge(failure.facts, progress, call.request.policy, remaining_s)[1]
        progress = decision.progress


def _at(progress: Progress, failure: RecordedFailure) -> Progress:
    """`progress`, unless the order shows that the call stood elsewhere: a version that nobody here knows decided so."""
    order = failure.order
    if (order.spec_index, order.try_number, order.number) == (
        progress.spec_index, progress.tries + 1, progress.attempts + 1,
    ):  # fmt: skip
        return progress
    tries = order.try_number - 1
    return replace(progress, spec_index=order.spec_index, tries=tries, retries=tries, attempts=order.number - 1)


def _recorded(failure: RecordedFailure) -> Judgement | None:
    entry = failure.entry
    if entry is None or entry.decision is None:
        return None  # given up before it was judged
    return Judgement(str(entry.category), str(entry.decision), entry.rule or "")


async def reclassify(histories: AsyncIterator[WorkflowHistory | str], converter: DataConverter) -> Report:
    """Judge every history again; a text stands for one that could not be read."""
    calls, attempts, found, unreadable = 0, 0, [], []
    async for history in histories:
        try:
            call = await read_call(history, converter) if isinstance(history, WorkflowHistory) else None
        except UnreadableCallError as error:
            unreadable.append(str(error))
            continue
        if call is None:
            unreadable.append(str(history))
            continue
        calls += 1
        attempts += sum(_recorded(failure) is not None for failure in call.failures)
        found += differences(call)
    return Report(calls, attempts, found, unreadable)


async def run_reclassify(paths: Sequence[Path], query: str | None, limit: int, *, as_json: bool) -> int:
    """Print the report; the status is 1 when a history could not be read.

    Raises:
        DurableLLMError: no server, or it refused the query.
    """
    report = await reclassify(*await chosen(paths, query, limit))
    console = Console()
    if as_json:
        print(json.dumps(asdict(report), indent=2))
    else:
        show(report, console)
    return 1 if report.unreadable else 0


def show(report: Report, console: Console) -> None:
    """The report for people."""
    if report.differences:
        console.print(_table(report.differences))
    console.print(
        f"{len(report.differences)} of {report.attempts} judgements in {report.calls} calls would be another under "
        f"policy version {CURRENT}",
        highlight=False,
    )
    for line in report.unreadable:
        console.print(f"not read: {line}", style="yellow", markup=False)


def _table(found: Sequence[Difference]) -> Table:
    table = Table("call", "#", "model", "failure", "recorded", "today")
    for row in found:
        cells = (row.call_id, str(row.attempt), row.model, row.message, _said(row.recorded), _said(row.today))
        table.add_row(*map(escape, cells))
    return table


def _said(judgement: Judgement) -> str:
    return f"{judgement.category} -> {judgement.decision} ({judgement.rule})"
