"""How a call, its ledger and a list of calls look to people."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from durable_llm.attempt import Attempt
from durable_llm.categories import Outcome
from durable_llm.cli.listing import CallRow
from durable_llm.cli.output import plain
from durable_llm.result import CallStatus, LLMResult

_MESSAGE_WIDTH: Final = 60
_STYLES: Final = {Outcome.ANSWERED: "green", Outcome.UNKNOWN: "yellow", Outcome.FAILED: "red"}


def answer_text(result: LLMResult) -> str:
    """The answer as people read it: its text, else its tool calls as JSON lines."""
    if result.text is not None:
        return result.text
    return "\n".join(tool_call.model_dump_json() for tool_call in result.tool_calls)


def call_view(status: CallStatus, attempts: Sequence[Attempt], cost: float, *, complete: bool) -> Group:
    """One call: where it stands, its ledger, its totals."""
    head = Text(plain(f"{status.call_id}: {status.outcome or 'terminated'}"), style="bold")
    doing = f" ({plain(status.activity)})" if status.activity and status.activity != status.outcome else ""
    spent = totals_line(status.attempts, cost, complete=complete)
    return Group(head + Text(doing), ledger_table(attempts), Text(spent))


def ledger_table(attempts: Iterable[Attempt]) -> Table:
    """A row for each attempt."""
    table = Table("#", "model", "came to", "http", box=SIMPLE_HEAD)
    table.add_column("message", max_width=_MESSAGE_WIDTH, no_wrap=True, overflow="ellipsis")
    table.add_column("and then")
    for name in ("waited", "took", "cost"):
        table.add_column(name, justify="right")
    for entry in attempts:
        table.add_row(*_ledger_cells(entry))
    return table


def _ledger_cells(entry: Attempt) -> Iterable[Text]:
    came_to = entry.category or entry.outcome or "running"
    yield Text(str(entry.number))
    yield Text(plain(entry.model))
    yield Text(str(came_to), style=_STYLES.get(Outcome(entry.outcome), "") if entry.outcome in set(Outcome) else "")
    yield Text("" if entry.http_status is None else str(entry.http_status))
    yield Text(plain(entry.message or ""))
    yield Text(str(entry.decision or ""))
    yield Text(_seconds(entry.delay_s))
    yield Text(_seconds(entry.duration_s))
    yield Text(money(entry.cost) if entry.outcome else "")


def calls_table(rows: Iterable[CallRow]) -> Table:
    """A row for each call."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("id", overflow="fold")
    for name in ("outcome", "model", "category"):
        table.add_column(name)
    table.add_column("attempts", justify="right")
    table.add_column("cost", justify="right")
    table.add_column("session", overflow="fold")
    table.add_column("started")
    for row in rows:
        cells = (row.call_id, row.outcome, row.model, row.category, row.attempts, money(row.cost), row.session)
        table.add_row(*(Text(plain("" if cell is None else str(cell))) for cell in cells), _moment(row.started_at))
    return table


def totals_line(attempts: int, cost: float, *, complete: bool) -> str:
    """How many attempts, and what they cost together."""
    known = money(cost) if complete else f"{money(cost)} known, the rest unknown"
    return f"{attempts} attempt{'' if attempts == 1 else 's'}, {known}"


def money(cost: float | None) -> str:
    """USD; unknown is not nothing."""
    if cost is None:
        return "?"
    if 0 < cost < 1e-6:
        return "<$0.000001"
    return f"${cost:.6f}".rstrip("0").rstrip(".")


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f} s"


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"
