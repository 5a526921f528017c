"""`make bench`: what a durable call costs, beside Temporal's own floor and what else one would use.

All contestants ask the same provider, which answers at once, on the same machine, and those that need Temporal use the
same server. Rounds are interleaved, so that a noisy moment of the machine falls on all; figures are medians of rounds,
and ratios are within this run. Beside the times stands the CPU time of a call, which noise changes less.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psutil
from rich.console import Console

from benchmarks.report import HEADINGS, REPORT, Report, Round, rows
from benchmarks.stand import Stand, cpu_s
from benchmarks.tables import save, terminal

ROUNDS: Final = 5
ALONE: Final = 60
CALLERS: Final = 100
TOGETHER: Final = 400
WARM_UP: Final = 40
ENVIRONMENTS: Final = Path(".durable-llm/bench")


@dataclass(frozen=True)
class Contestant:
    """One of those that are measured.

    Attributes:
        name: Its name in the table.
        caller: The arguments of its caller's interpreter.
        worker: The arguments of its worker's. None: it works in the caller's process.
        server: What it needs, "temporal" or "postgres".
        environment: The virtual environment of its own. None: this project's.
    """

    name: str
    caller: Sequence[str]
    worker: Sequence[str] | None = None
    server: str | None = None
    environment: str | None = None

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(ENVIRONMENTS / self.environment / "bin" / "python") if self.environment else sys.executable


def on_temporal(name: str, module: str, environment: str | None = None) -> Contestant:
    """A contestant that has both parts in one module."""
    command = ("-m", f"benchmarks.contestants.{module}")
    return Contestant(name, (*command, "caller"), (*command, "worker"), "temporal", environment)


def alone(name: str, module: str, *arguments: str, **more: Any) -> Contestant:
    """A contestant that works in the caller's process."""
    return Contestant(name, ("-m", f"benchmarks.contestants.{module}", *arguments), **more)


CONTESTANTS: Final = (
    on_temporal("Temporal's floor", "floor"),
    Contestant("durable-llm", ("-m", "benchmarks.contestants.ours"), ("-m", "workers"), "temporal"),
    on_temporal("pydantic-ai on Temporal", "pydantic_ai_agent", "pydantic-ai"),
    on_temporal("openai-agents on Temporal", "openai_agents_plugin", "openai-agents"),
    alone("DBOS on SQLite", "dbos_loop", "BENCH_SQLITE", environment="dbos"),
    alone("DBOS on PostgreSQL", "dbos_loop", "BENCH_POSTGRES", environment="dbos", server="postgres"),
    alone("fhlmi (not durable)", "fhlmi_model", environment="fhlmi"),
    alone("litellm Router (not durable)", "litellm_caller", "router"),
    alone("litellm alone (not durable)", "litellm_caller", "alone"),
)


@dataclass(frozen=True)
class Running:
    """A contestant's caller, and all its processes by what they do."""

    contestant: Contestant
    caller: asyncio.subprocess.Process
    processes: Mapping[str, psutil.Process]

    async def round(self) -> Round:
        """One caller, then many."""
        one = await self.call(1, ALONE)
        before = self._cpu_s()
        many = await self.call(CALLERS, TOGETHER)
        used = {name: (seconds - before[name]) / TOGETHER * 1e3 for name, seconds in self._cpu_s().items()}
        percentiles = statistics.quantiles(many["times_s"], n=100)
        return Round(
            alone_p50_ms=statistics.median(one["times_s"]) * 1e3, rate_per_s=TOGETHER / many["wall_s"],
            p50_ms=percentiles[49] * 1e3, p99_ms=percentiles[98] * 1e3, cpu_ms=used,
        )  # fmt: skip

    async def call(self, callers: int, calls: int) -> dict[str, Any]:
        """Let the caller make calls, `callers` at a time."""
        return await self.order({"callers": callers, "calls": calls})

    async def order(self, order: Mapping[str, int]) -> dict[str, Any]:
        """Give the caller an order, and await its reply."""
        if self.caller.stdin is None or self.caller.stdout is None:
            raise OSError("the caller has no pipes")
        self.caller.stdin.write(json.dumps(order).encode() + b"\n")
        line = await self.caller.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.contestant.name}: the caller ended")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _cpu_s(self) -> dict[str, float]:
        return {name: cpu_s(process) for name, process in self.processes.items()}


async def start(stand: Stand, contestant: Contestant) -> Running:
    """Start a contestant's worker and caller, and wait until both are ready."""
    processes = {"server": stand.servers[contestant.server]} if contestant.server else {}
    if contestant.worker is not None:
        processes["worker"] = await stand.worker([contestant.python, *contestant.worker])
    caller = await asyncio.create_subprocess_exec(
        contestant.python, *contestant.caller, env={**os.environ, **stand.env}, limit=2**24,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    stand.stack.callback(caller.kill)
    if caller.stdout is None or await caller.stdout.readline() != b"ready\n":
        raise RuntimeError(f"{contestant.name}: the caller did not start")
    return Running(contestant, caller, {**processes, "caller": psutil.Process(caller.pid)})


async def measure(contestants: Sequence[Contestant], rounds: int) -> Report:
    """Measure the contestants, side by side."""
    async with AsyncExitStack() as stack:
        stand = Stand(stack)
        await stand.build({contestant.server for contestant in contestants})
        running = [await start(stand, contestant) for contestant in contestants]
        for one in running:
            await one.call(WARM_UP, WARM_UP)
            await one.call(1, WARM_UP)
        found: dict[str, list[Round]] = {contestant.name: [] for contestant in contestants}
        for _ in range(rounds):
            for one in running:
                found[one.contestant.name].append(await one.round())
    return Report(machine=machine(), rounds=found)


def machine() -> dict[str, str | int | None]:
    """What it was measured on."""
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    return {
        "processor": model.partition(": ")[2] or platform.processor(), "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30), "system": platform.system(),
        "python": platform.python_version(),
    }  # fmt: skip


def main() -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", nargs="*", default=[one.name for one in CONTESTANTS], metavar="NAME")
    options = parser.parse_args()
    chosen = [one for one in CONTESTANTS if one.name in options.only]
    report = asyncio.run(measure(chosen, options.rounds))
    Console(width=160).print(terminal(HEADINGS, rows(report)))
    save(REPORT, asdict(report))


if __name__ == "__main__":
    main()
