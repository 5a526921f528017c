"""`make bench-footprint`: what one call leaves on the Temporal server, for the capacity model of docs/scaling.md.

Calls run one after the other on the embedded server with its database in a file: plain, through a quota, and with a
budget. Their histories are read, and the rows of the database are counted before and after.
"""

import asyncio
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import AsyncExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import yaml  # type: ignore[import-untyped]  # its annotations are a package of their own
from rich.console import Console
from temporalio.api.enums.v1 import EventType

from benchmarks.stand import Stand
from benchmarks.tables import Row, save, terminal
from durable_llm import Budget, Dispatcher, ModelSpec
from workers.dev.server import DevServer, ServerOptions

REPORT: Final = Path(".durable-llm/bench/footprint.json")
CALLS: Final = 200
HEADINGS: Final = (
    "call", "events", "bytes of history", "actions", "changes of state", "rows that stay", "bytes of database",
)  # fmt: skip
_WARM_UP: Final = 20

_ACTIONS: Final = frozenset({
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED, EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
    EventType.EVENT_TYPE_TIMER_STARTED, EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES,
    EventType.EVENT_TYPE_MARKER_RECORDED, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED,
})  # fmt: skip
"""Events that Temporal Cloud counts as actions (its page on actions, 2026)."""


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Of one call."""

    kind: str
    events: float
    history_bytes: float
    actions: float
    transitions: float
    """Changes of the workflow's state that the server wrote."""
    rows: float
    """Rows of the database that stay after the call has ended."""
    database_bytes: float


async def measure(dispatcher: Dispatcher, database: Path, kind: str, spec: ModelSpec, **options: Any) -> Footprint:
    """Make calls, and look at what they have left."""
    for _ in range(_WARM_UP):
        await dispatcher.call(spec, "Name a prime.", **options)
    before, size_before = rows_of(database), size_of(database)
    ids = []
    for number in range(CALLS):
        ids.append(f"{kind}-{number}")
        await dispatcher.call(spec, "Name a prime.", call_id=ids[-1], **options)
    await asyncio.sleep(2)  # the server writes its visibility records behind the call
    rows, size = rows_of(database), size_of(database)
    events: Counter[Any] = Counter()
    history_bytes = transitions = 0
    for call_id in ids[:50]:
        handle = dispatcher.client.get_workflow_handle(call_id)
        info = (await handle.describe()).raw_description.workflow_execution_info
        history_bytes += info.history_size_bytes
        transitions += info.state_transition_count
        async for event in handle.fetch_history_events():
            events[event.event_type] += 1
    return Footprint(
        kind=kind, events=events.total() / 50, history_bytes=history_bytes / 50,
        actions=sum(count for event, count in events.items() if event in _ACTIONS) / 50, transitions=transitions / 50,
        rows=(rows - before) / CALLS, database_bytes=(size - size_before) / CALLS,
    )  # fmt: skip


def rows_of(database: Path) -> int:
    """Rows of all tables."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        counts = [connection.execute(f'SELECT COUNT(*) FROM "{name}"').fetchone()[0] for name in names]  # noqa: S608  # SQLite's own names
        return sum(counts)


def size_of(database: Path) -> int:
    """Bytes of the database and its log of changes."""
    return sum(each.stat().st_size for each in database.parent.glob(f"{database.name}*"))


def rows(found: Iterable[Footprint]) -> list[Row]:
    """For the table."""
    return [(each.kind, *(f"{value:,.0f}" for value in list(asdict(each).values())[1:])) for each in found]


async def main() -> None:
    """Measure, print and save."""
    found = []
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        database, chains = folder / "server.db", folder / "chains.yaml"
        chains.write_text(
            yaml.safe_dump({"quotas": {"q": {"models": ["openai/quota"], "requests_per_minute": 60_000}}})
        )
        stand = Stand(stack)
        await stand.build(())
        server = await stack.enter_async_context(DevServer(ServerOptions(port=0, ui_port=None, data=database)))
        stand.env |= {name: value for name, value in server.env.items() if value is not None}
        stand.env["DURABLE_LLM_CHAINS"] = str(chains)
        await stand.worker()
        os.environ.update(stand.env)
        dispatcher = await stack.enter_async_context(Dispatcher.connect())
        base = stand.env["OPENAI_BASE_URL"]
        for kind, name, options in (
            ("plain", "openai/gpt-4o-mini", {}),
            ("through a quota", "openai/quota", {}),
            ("with a budget", "openai/gpt-4o-mini", {"budget": Budget(name="b", hard=1000.0)}),
        ):
            spec = ModelSpec(name=name, api_base=base)
            found.append(await measure(dispatcher, database, kind, spec, **options))
    Console().print(terminal(HEADINGS, rows(found)))
    save(REPORT, [asdict(each) for each in found])


if __name__ == "__main__":
    asyncio.run(main())
