"""A call, its ledger and a list of calls as tables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from durable_llm.cli.output import plain
from durable_llm.client.listing import CallRow
from durable_llm.client.report import Report
from durable_llm.client.spending import Spending
from durable_llm.client.stats import Figures, Stats
from durable_llm.contract.categories import Outcome
from durable_llm.contract.holds import Hold
from durable_llm.contract.ledger import Attempt, Intervention, usd
from durable_llm.contract.result import CallStatus, LLMResult

_MESSAGE_LENGTH: Final = 100
_WORTH_A_WORD_S: Final = 1.0
_FOLDED: Final = {"id", "model", "message", "session", "held", "by", "why"}
_NUMBERS: Final = {
    "waited",
    "took",
    "cost",
    "attempts",
    "calls",
    "tokens",
    "p50",
    "p95",
    "running",
    "waiting",
    "paused",
    "parked",
    "after a failure",
}
_STYLES: Final = {Outcome.ANSWERED: "green", Outcome.UNKNOWN: "yellow", Outcome.FAILED: "red"}


def answer_text(result: LLMResult) -> str:
    """The answer for people: its text, or its tool calls as JSON lines."""
    if result.text is not None:
        return result.text
    return "\n".join(tool_call.model_dump_json() for tool_call in result.tool_calls)


def call_view(status: CallStatus, attempts: Sequence[Attempt], cost: float, *, complete: bool) -> Group:
    """One call: its status, its ledger, its totals."""
    head = Text(plain(f"{status.call_id}: {status.outcome or 'terminated'}"), style="bold")
    doing = f" ({plain(status.activity)})" if status.activity and status.activity != status.outcome else ""
    spent = totals_line(status.attempts, cost, complete=complete)
    told = [Text(plain(_told(each))) for each in status.interventions]
    return Group(head + Text(doing), ledger_table(attempts), *told, Text(spent))


def _told(each: Intervention) -> str:
    who = f" by {each.by}" if each.by else ""
    return (
        f"{each.at.astimezone():%Y-%m-%d %H:%M:%S}, after attempt {each.after_attempt}: {each.action}{who}: {each.why}"
    )


def ledger_table(attempts: Iterable[Attempt]) -> Table:
    """A row for each attempt."""
    names = ("#", "model", "result", "http", "message", "decision", "waited", "took", "cost")
    return _table(names, (_ledger_cells(entry) for entry in attempts))


def _ledger_cells(entry: Attempt) -> Iterable[Text]:
    result = entry.category or entry.outcome or "running"
    yield Text(str(entry.number))
    yield Text(plain(entry.model))
    yield Text(str(result), style=_STYLES.get(Outcome(entry.outcome), "") if entry.outcome in set(Outcome) else "")
    yield Text("" if entry.http_status is None else str(entry.http_status))
    yield Text(shortened("; ".join(filter(None, (_queued(entry), entry.message)))))
    yield Text(str(entry.decision or ""))
    yield Text(_seconds(entry.delay_s))
    yield Text(_seconds(entry.duration_s))
    yield Text(usd(entry.cost) if entry.outcome else "")


def _queued(entry: Attempt) -> str:
    """How long an attempt waited for its quota, if that is worth a word."""
    waited_s = entry.waited_s or 0.0
    return f"{_seconds(waited_s)} for quota {entry.quota}" if waited_s >= _WORTH_A_WORD_S else ""


def calls_table(rows: Iterable[CallRow]) -> Table:
    """A row for each call."""
    names = ("id", "outcome", "model", "category", "attempts", "cost", "session", "started")
    return _table(names, (_call_cells(row) for row in rows))


def _call_cells(row: CallRow) -> Iterable[Text]:
    for value in (row.call_id, row.outcome, row.model, row.category, row.attempts):
        yield Text(plain("" if value is None else str(value)))
    yield Text(usd(row.cost))
    yield Text(plain(row.session or ""))
    yield Text(f"{row.started_at.astimezone():%Y-%m-%d %H:%M:%S}")


def job_table(report: Report) -> Table:
    """A row for each call of a job, with what it has used."""
    names = ("id", "outcome", "model", "attempts", "waited", "tokens", "cost", "started")
    return _table(names, (_job_cells(row, report.by_call[row.call_id]) for row in report.calls))


def _job_cells(row: CallRow, spent: Spending) -> Iterable[Text]:
    for value in (row.call_id, row.outcome, row.model):
        yield Text(plain("" if value is None else str(value)))
    yield Text(str(spent.attempts))
    yield from _used_cells(spent)
    yield Text(f"{row.started_at.astimezone():%Y-%m-%d %H:%M:%S}")


def holds_table(holds: Iterable[Hold]) -> Table:
    """A row for each hold."""
    return _table(("held", "by", "why", "since", "until"), (_hold_cells(hold) for hold in holds))


def _hold_cells(hold: Hold) -> Iterable[Text]:
    for value in (hold.title, hold.by, hold.why):
        yield Text(plain(value))
    yield Text(f"{hold.since.astimezone():%Y-%m-%d %H:%M:%S}")
    yield Text(f"{hold.until.astimezone():%Y-%m-%d %H:%M:%S}" if hold.until else "it is released")


def fleet_tables(
    by_model: Mapping[str, Mapping[str, int]], failures: Mapping[str, int], holds: Sequence[Hold]
) -> Iterable[Table]:
    """Calls in flight by model and state, by the category of their last failure, and what is held."""
    states = ("running", "waiting", "paused", "parked", "after a failure")
    rows = (
        [Text(plain(model)), *(Text(str(counts.get(state, 0))) for state in states)]
        for model, counts in by_model.items()
    )
    yield _table(("model", *states), rows)
    if failures:
        yield _table(("last failure", "calls"), ([Text(name), Text(str(count))] for name, count in failures.items()))
    if holds:
        yield holds_table(holds)


def stats_tables(stats: Stats) -> Iterable[Table]:
    """A table for each way to group calls."""
    groups = {"outcome": stats.by_outcome, "model": stats.by_model, "last failure": stats.by_category}
    for name, figures in groups.items():
        if figures:
            names = (name, "calls", "attempts", "p50", "p95", "cost")
            yield _table(names, (_figure_cells(value, each) for value, each in figures.items()))


def _figure_cells(name: str, figures: Figures) -> Iterable[Text]:
    yield Text(plain(name))
    yield Text(str(figures.calls))
    yield Text(str(figures.attempts))
    yield Text(_seconds(figures.seconds_p50))
    yield Text(_seconds(figures.seconds_p95))
    yield Text(known_cost(figures.cost, complete=not figures.cost_unknown))


def spending_table(by_session: Mapping[str | None, Spending]) -> Table:
    """A row for each session."""
    names = ("session", "calls", "attempts", "waited", "tokens", "cost")
    return _table(names, (_session_cells(name, spent) for name, spent in by_session.items()))


def _session_cells(name: str | None, spent: Spending) -> Iterable[Text]:
    yield Text(plain(name or "(none)"))
    yield Text(str(spent.calls))
    yield Text(str(spent.attempts))
    yield from _used_cells(spent)


def _used_cells(spent: Spending) -> Iterable[Text]:
    yield Text(_seconds(spent.waited_s))
    yield Text(f"{spent.prompt_tokens:,} + {spent.completion_tokens:,}")
    yield Text(known_cost(spent.cost, complete=spent.cost_complete))


def spending_line(spent: Spending) -> str:
    """What calls have used, in a line."""
    return (
        f"{spent.calls} call{'' if spent.calls == 1 else 's'}, "
        f"{totals_line(spent.attempts, spent.cost, complete=spent.cost_complete)}, waited {_seconds(spent.waited_s)}, "
        f"{spent.prompt_tokens:,} + {spent.completion_tokens:,} tokens"
    )


def _table(names: Iterable[str], rows: Iterable[Iterable[Text]]) -> Table:
    """A table that folds long texts on a narrow terminal, but no numbers and no words."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in names:
        justify: Literal["left", "right"] = "right" if name in _NUMBERS else "left"
        table.add_column(name, justify=justify, overflow="fold", no_wrap=name not in _FOLDED)
    for row in rows:
        table.add_row(*row)
    return table


def shortened(message: str) -> str:
    """The beginning of a provider's message."""
    message = plain(message)
    return message if len(message) <= _MESSAGE_LENGTH else message[: _MESSAGE_LENGTH - 1] + "…"


def totals_line(attempts: int, cost: float, *, complete: bool) -> str:
    """How many attempts, and their cost."""
    return f"{attempts} attempt{'' if attempts == 1 else 's'}, {known_cost(cost, complete=complete)}"


def known_cost(cost: float, *, complete: bool) -> str:
    """A cost. What is unknown is never shown as zero."""
    if complete:
        return usd(cost)
    return f"{usd(cost)} known, the rest unknown" if cost else "unknown"


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f} s"
