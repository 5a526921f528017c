"""The commands that look at many calls, or at one while it runs: `watch`, `stats`, `open`."""

import asyncio
import sys
import webbrowser
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from durable_llm.cli.call_commands import CallId, look_at
from durable_llm.cli.listing import Filters, waiting_of
from durable_llm.cli.output import Output, live_console
from durable_llm.cli.parse import duration
from durable_llm.cli.tables import fleet_tables, stats_tables
from durable_llm.cli.temporal_options import TaskQueue, TemporalOptions
from durable_llm.client.dispatcher import Dispatcher
from durable_llm.client.listing import CALLS, CallRow
from durable_llm.client.stats import stats_of
from durable_llm.contract.categories import UNFINISHED, CallOutcome
from durable_llm.contract.holds import Hold
from durable_llm.contract.names import TASK_QUEUE

_MOST: Final = 10_000
_MOST_ASKED: Final = 200
"""Calls that one look asks whether they wait; a worker answers each in a few milliseconds."""

_LATELY: Final = timedelta(hours=1)

_Look = Callable[[], Awaitable[tuple[dict[str, Any], RenderableType, bool]]]
"""What is seen now: as data, for people, and whether there will be nothing more."""


@dataclass(frozen=True)
class Fleet:
    """Calls in flight, and what was lately spent."""

    by_model: dict[str, dict[str, int]] = field(default_factory=dict)
    """How many calls of each model are running, paused or parked; how many had a failure; and how many of the running
    ones wait after it, for time, for money or for a hold."""
    failures: dict[str, int] = field(default_factory=dict)
    """Calls in flight by the category of their last failure."""
    spent_usd: float = 0.0
    """The known cost of calls that ended in the last hour."""
    complete: bool = True
    """False: there are more than 10,000 calls, and some were not counted."""
    all_asked: bool = True
    """False: more than 200 running calls had a failure, and only the newest 200 were asked whether they wait."""


def may_wait(running: list[CallRow]) -> list[CallRow]:
    """The running calls that may wait: a call waits after a failure."""
    return [row for row in running if row.category is not None and row.outcome == CallOutcome.RUNNING]


def fleet_of(running: list[CallRow], waiting: list[CallRow], ended: list[CallRow]) -> Fleet:
    """The view of calls in flight, of those that wait, and of those that ended in the last hour."""
    by_model: dict[str, Counter[str]] = defaultdict(Counter)
    for row in running:
        by_model[row.model or "unknown"][row.outcome or "running"] += 1
        by_model[row.model or "unknown"]["after a failure"] += row.category is not None
    for row in waiting:
        by_model[row.model or "unknown"]["waiting"] += 1
    return Fleet(
        by_model={model: dict(counts) for model, counts in sorted(by_model.items())},
        failures=dict(Counter(row.category for row in running if row.category is not None).most_common()),
        spent_usd=sum(row.cost or 0.0 for row in ended),
        complete=max(len(running), len(ended)) < _MOST,
        all_asked=len(may_wait(running)) <= _MOST_ASKED,
    )


async def watch(
    temporal: TemporalOptions, output: Output, task_queue: TaskQueue = TASK_QUEUE,
    call_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="The call to watch; without it, all calls.")
    ] = None,
    every: Annotated[str, typer.Option(help="How often to look.", metavar="DURATION")] = "2s",
) -> None:  # fmt: skip
    """Watch one call until it ends, or all calls in flight, in place. Off a terminal it looks once."""
    seconds = duration("--every", every).total_seconds()
    async with temporal.dispatcher(task_queue=task_queue, search_attributes=call_id is None) as dispatcher:

        async def look() -> tuple[dict[str, Any], RenderableType, bool]:
            return await (_fleet(dispatcher) if call_id is None else _one(dispatcher, call_id))

        if output.as_json or not sys.stdout.isatty():
            data, human, _ = await look()
            output.give(data, human)
            return
        await _refreshed(look, seconds)


async def _refreshed(look: _Look, seconds: float) -> None:
    _, human, ended = await look()
    with Live(human, console=live_console(), auto_refresh=False) as live:
        while not ended:
            await asyncio.sleep(seconds)
            _, human, ended = await look()
            live.update(human, refresh=True)


async def _one(dispatcher: Dispatcher, call_id: str) -> tuple[dict[str, Any], RenderableType, bool]:
    seen, view = await look_at(dispatcher.attach(call_id))
    return seen, view, seen["status"].outcome not in UNFINISHED


async def _fleet(dispatcher: Dispatcher) -> tuple[dict[str, Any], RenderableType, bool]:
    lately = (datetime.now(UTC) - _LATELY).isoformat()
    running, ended, holds = await asyncio.gather(
        dispatcher.find(f"{CALLS} AND ExecutionStatus = 'Running'", _MOST),
        dispatcher.find(f"{CALLS} AND CloseTime >= '{lately}'", _MOST),
        dispatcher.holds(),
    )
    waiting = await waiting_of(dispatcher, may_wait(running)[:_MOST_ASKED])
    fleet = fleet_of(running, waiting, ended)
    return {**asdict(fleet), "holds": holds}, fleet_view(fleet, holds), False


def fleet_view(fleet: Fleet, holds: list[Hold]) -> Group:
    """The fleet for people."""
    total = sum(count for counts in fleet.by_model.values() for state, count in counts.items() if state in UNFINISHED)
    more = "" if fleet.complete else f"; more than {_MOST:,} calls, not all are counted"
    asked = "" if fleet.all_asked else f"; {_MOST_ASKED} of those after a failure were asked whether they wait"
    head = f"{datetime.now().astimezone():%H:%M:%S}: {total} calls in flight{more}{asked}"
    return Group(
        Text(head, style="bold"), *fleet_tables(fleet.by_model, fleet.failures, holds),
        Text(f"spent in the last hour: ${fleet.spent_usd:,.2f} known"),
    )  # fmt: skip


async def stats(
    filters: Filters, temporal: TemporalOptions, output: Output,
    since: Annotated[str, typer.Option(help="Only calls that were started in this time.", metavar="DURATION")] = "24h",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many calls at most.")] = _MOST,
) -> None:  # fmt: skip
    """Show what calls came to, by outcome, model and category: how many, how long they took, what they cost."""
    start = (datetime.now(UTC) - duration("--since", since)).isoformat()
    async with temporal.dispatcher(search_attributes=True) as dispatcher:
        rows = await dispatcher.find(f"{filters.query()} AND StartTime >= '{start}'", limit)
    found = stats_of(rows)
    more = f"; there may be more than {limit:,} calls, raise --limit" if len(rows) == limit else ""
    output.give(
        {"since": start, **asdict(found), "complete": len(rows) < limit},
        Group(*stats_tables(found), Text(f"{len(rows)} calls{more}")),
    )


async def open_call(
    call_id: CallId, temporal: TemporalOptions, output: Output,
    ui: Annotated[
        str, typer.Option(help="Address of the Temporal UI.", envvar="DURABLE_LLM_UI", metavar="URL")
    ] = "http://127.0.0.1:8233",
) -> None:  # fmt: skip
    """Print the address of a call in the Temporal UI; on a terminal, open it in a browser too."""
    async with temporal.dispatcher() as dispatcher:
        await dispatcher.attach(call_id).status()
        namespace = dispatcher.client.namespace
    address = f"{ui.rstrip('/')}/namespaces/{quote(namespace, safe='')}/workflows/{quote(call_id, safe='')}"
    output.give({"call_id": call_id, "url": address}, address)
    if sys.stdout.isatty() and not output.as_json:
        webbrowser.open(address)
