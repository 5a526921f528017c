"""`make exits`: programs run many times, and the status that each leaves with.

An interpreter in which Temporal's SDK ran may abort or hang while it tears itself down, once in ten runs or a hundred.
So each kind of program is run often, to its own kind of end, and every status is counted; a negative one is the signal
that the program died of.
"""

import asyncio
import json
import os
import signal
import sys
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from workers.children import Child
from workers.dev_server import DevServer, ServerOptions

AT_ONCE: Final = 4
RUN_WITHIN_S: Final = 120.0
REPORT: Final = Path(".durable-llm/bench/exits.json")

Environment = Mapping[str, str | None]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of program, and how it ends."""

    name: str
    runs: int
    run: Callable[[Environment], Awaitable[int]]
    """Runs it once, with the environment that leads to the server; its exit status."""
    expected: int = 0


async def leaving_job(env: Environment) -> int:
    """A caller's job that leaves with a result pending."""
    return await status_of(["-m", "examples.leaving_job", f"exit-{uuid.uuid4()}", "openai/gpt-4o-mini", "Hi"], env)


KINDS: Final = (Kind(name="a job that leaves with a result pending", runs=200, run=leaving_job),)


async def status_of(arguments: list[str], env: Environment) -> int:
    """The status that a Python program leaves with; one that hangs is killed, so SIGKILL's."""
    child = await Child.start("the program", [sys.executable, *arguments], env=env)
    try:
        await asyncio.wait_for(child.wait(), RUN_WITHIN_S)
    except TimeoutError:
        child.signal(signal.SIGKILL)
    finally:
        status = await child.stop()
    return status


async def statuses(kind: Kind, env: Environment, runs: int | None = None) -> Counter[int]:
    """How many runs left with each status.

    Args:
        kind: What to run.
        env: Leads to the server.
        runs: How often; None: as often as the kind says.
    """
    turns = asyncio.Semaphore(AT_ONCE)

    async def one() -> int:
        async with turns:
            return await kind.run(env)

    return Counter(await asyncio.gather(*(one() for _ in range(runs or kind.runs))))


async def run() -> int:
    """Run all kinds, print and write their statuses; 0 when every one is right."""
    table = Table("program", "runs", "expected", "statuses")
    found: dict[str, Counter[int]] = {}
    async with DevServer(ServerOptions(port=0, ui_port=None, data=None)) as server:
        for kind in KINDS:
            found[kind.name] = seen = await statuses(kind, server.env)
            shown = ", ".join(f"{count} x {status}" for status, count in sorted(seen.items()))
            table.add_row(kind.name, str(seen.total()), str(kind.expected), shown)
    Console().print(table)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(found, indent=1))
    return 0 if all(set(found[kind.name]) == {kind.expected} for kind in KINDS) else 1


if __name__ == "__main__":
    code = asyncio.run(run())
    sys.stdout.flush()
    os._exit(code)
