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
from rich.table import Table

from workers.dev.children import Child
from workers.dev.ports import free_port
from workers.dev.server import DevServer, ServerOptions

ROUNDS: Final = 5
ALONE: Final = 60
CALLERS: Final = 100
TOGETHER: Final = 400
WARM_UP: Final = 40
REPORT: Final = Path(".durable-llm/bench/report.json")


@dataclass(frozen=True)
class Contestant:
    """One of those that are measured."""

    name: str
    caller: Sequence[str]
    worker: Sequence[str] | None = None
    python: str = sys.executable


CONTESTANTS: Final = (
    Contestant(
        "Temporal's floor",
        ["-m", "benchmarks.contestants.floor", "caller"],
        ["-m", "benchmarks.contestants.floor", "worker"],
    ),
    Contestant("durable-llm", ["-m", "benchmarks.contestants.ours"], ["-m", "workers"]),
)


@dataclass(frozen=True)
class Round:
    """One contestant in one round. Times in ms, CPU in ms a call by process, with 100 callers."""

    alone_p50: float
    rate: float
    p50: float
    p99: float
    cpu: Mapping[str, float]


class Running:
    """A contestant's processes."""

    def __init__(
        self, contestant: Contestant, processes: Mapping[str, int], caller: asyncio.subprocess.Process
    ) -> None:
        self.contestant = contestant
        self._processes = {name: psutil.Process(pid) for name, pid in {**processes, "caller": caller.pid}.items()}
        self._caller = caller

    async def round(self) -> Round:
        """One caller, then many."""
        alone = await self.call(1, ALONE)
        before = self._cpu()
        together = await self.call(CALLERS, TOGETHER)
        used = {name: (seconds - before[name]) / TOGETHER * 1e3 for name, seconds in self._cpu().items()}
        percentiles = statistics.quantiles(together["times_s"], n=100)
        return Round(
            alone_p50=statistics.median(alone["times_s"]) * 1e3, rate=TOGETHER / together["wall_s"],
            p50=percentiles[49] * 1e3, p99=percentiles[98] * 1e3, cpu=used,
        )  # fmt: skip

    async def call(self, callers: int, calls: int) -> dict[str, Any]:
        """Let the caller make calls."""
        if self._caller.stdin is None or self._caller.stdout is None:
            raise OSError("the caller has no pipes")
        self._caller.stdin.write(json.dumps({"callers": callers, "calls": calls}).encode() + b"\n")
        line = await self._caller.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.contestant.name}: the caller ended")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _cpu(self) -> dict[str, float]:
        return {name: sum(process.cpu_times()[:2]) for name, process in self._processes.items()}


async def start(
    stack: AsyncExitStack, contestant: Contestant, env: Mapping[str, str], shared: Mapping[str, int]
) -> Running:
    """Start a contestant's worker and caller, and wait until both are ready."""
    processes = dict(shared)
    if contestant.worker is not None:
        ready = asyncio.Event()
        worker = await Child.start(
            contestant.name, [contestant.python, *contestant.worker], env=dict(env),
            on_line=lambda line: ready.set() if "ready" in line else None,
        )  # fmt: skip
        stack.push_async_callback(worker.stop)
        async with asyncio.timeout(60):
            await ready.wait()
        processes["worker"] = worker.pid
    caller = await asyncio.create_subprocess_exec(
        contestant.python, *contestant.caller, env={**os.environ, **env}, limit=2**24,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    stack.callback(caller.kill)
    if caller.stdout is None or await caller.stdout.readline() != b"ready\n":
        raise RuntimeError(f"{contestant.name}: the caller did not start")
    return Running(contestant, processes, caller)


async def run(contestants: Sequence[Contestant], rounds: int) -> dict[str, list[Round]]:
    """Measure the contestants, side by side."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(DevServer(ServerOptions(port=0, ui_port=None, data=None)))
        port = free_port()
        provider = await Child.start("provider", [sys.executable, "-m", "benchmarks.provider", str(port)])
        stack.push_async_callback(provider.stop)
        env = {
            **{name: value for name, value in server.env.items() if value is not None},
            "DURABLE_LLM_API_BASE_HOSTS": "127.0.0.1", "DURABLE_LLM_LOG_LEVEL": "WARNING", "OPENAI_API_KEY": "none",
            "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1", "PYTHONPATH": os.getcwd(),
        }  # fmt: skip
        shared = {"server": server.child.pid, "provider": provider.pid}
        running = [await start(stack, contestant, env, shared) for contestant in contestants]
        found: dict[str, list[Round]] = {contestant.name: [] for contestant in contestants}
        for one in running:
            await one.call(WARM_UP, WARM_UP)
            await one.call(1, WARM_UP)
        for _ in range(rounds):
            for one in running:
                found[one.contestant.name].append(await one.round())
        return found


def medians(rounds: Sequence[Round]) -> Round:
    """Each figure's median."""
    numbers = {
        name: statistics.median(getattr(one, name) for one in rounds) for name in ("alone_p50", "rate", "p50", "p99")
    }
    return Round(**numbers, cpu={name: statistics.median(one.cpu[name] for one in rounds) for name in rounds[0].cpu})


def table(found: Mapping[str, Sequence[Round]]) -> Table:
    """All contestants, with their ratios to the first."""
    floor, *_ = (medians(rounds) for rounds in found.values())
    shown = Table(
        "",
        "p50 alone",
        "of the floor",
        "calls/s, 100",
        "of the floor",
        "p99/p50",
        "CPU ms a call: server",
        "worker",
        "caller",
    )
    for name, rounds in found.items():
        one = medians(rounds)
        cpu = (f"{one.cpu[part]:.1f}" if part in one.cpu else "" for part in ("server", "worker", "caller"))
        shown.add_row(
            name, f"{one.alone_p50:.1f} ms", f"{one.alone_p50 / floor.alone_p50:.2f}", f"{one.rate:.1f}",
            f"{one.rate / floor.rate:.2f}", f"{one.p99 / one.p50:.2f}", *cpu,
        )  # fmt: skip
    return shown


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", nargs="*", default=None)
    options = parser.parse_args()
    chosen = [one for one in CONTESTANTS if options.only is None or one.name in options.only]
    found = asyncio.run(run(chosen, options.rounds))
    Console(width=160).print(table(found))
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    machine = {"processor": platform.processor(), "cores": os.cpu_count(), "python": platform.python_version()}
    rounds = {name: [asdict(one) for one in rounds] for name, rounds in found.items()}
    REPORT.write_text(json.dumps({"machine": machine, "rounds": rounds}, indent=1))


if __name__ == "__main__":
    main()
