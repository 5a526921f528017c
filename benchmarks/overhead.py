"""`make bench-overhead`: what a durable call costs over Temporal's own floor.

Both kinds run against one embedded server, each on a worker process with the same settings, the provider without
latency. Rounds are interleaved, so that a noisy moment of the machine falls on both; the ratios are of the rounds'
medians.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from temporalio.client import Client

from benchmarks.floor import FLOOR_QUEUE, FLOOR_WORKFLOW
from durable_llm import Dispatcher, ModelSpec
from workers.dev.children import Child
from workers.dev.ports import free_port
from workers.dev.server import DevServer, ServerOptions

ROUNDS = 5
ALONE = 60
CALLERS = 100
TOGETHER = 400
WARM_UP = 30
REPORT = Path(".durable-llm/bench/overhead.json")

BAR_P50 = 1.5
BAR_RATE = 0.85
BAR_SPREAD = 3.0

Call = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Round:
    """Times of one kind in one round."""

    alone_p50_ms: float
    rate_per_s: float
    p50_ms: float
    p99_ms: float


async def measure(call: Call) -> Round:
    """One caller for ALONE calls, then CALLERS callers for TOGETHER calls."""
    alone = [await timed(call) for _ in range(ALONE)]
    together: list[float] = []
    began = time.perf_counter()
    left = iter(range(TOGETHER))

    async def caller() -> None:
        together.extend([await timed(call) for _ in left])

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    rate = TOGETHER / (time.perf_counter() - began)
    percentiles = statistics.quantiles(together, n=100)
    return Round(statistics.median(alone) * 1e3, rate, statistics.median(together) * 1e3, percentiles[98] * 1e3)


async def timed(call: Call) -> float:
    """Seconds that one call takes."""
    began = time.perf_counter()
    await call()
    return time.perf_counter() - began


async def run() -> int:
    """Measure, print and write the figures; the exit status says whether the bars are met."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(DevServer(ServerOptions(port=0, ui_port=None, data=None)))
        port = free_port()
        env = {**server.env, "DURABLE_LLM_API_BASE_HOSTS": "127.0.0.1", "DURABLE_LLM_LOG_LEVEL": "WARNING"}
        for name, command in (
            ("provider", ["-m", "benchmarks.provider", str(port)]),
            ("floor", ["-m", "benchmarks.floor"]),
            ("worker", ["-m", "workers"]),
        ):
            child = await Child.start(name, [sys.executable, *command], env=env)
            stack.push_async_callback(child.stop)
        os.environ["TEMPORAL_ADDRESS"] = server.address
        dispatcher = await stack.enter_async_context(Dispatcher.connect())
        ours, floor = calls(dispatcher, f"http://127.0.0.1:{port}/v1")
        for call in (floor, ours):
            await asyncio.gather(*(call() for _ in range(WARM_UP)))
            await measure_nothing(call)
        rounds = [(await measure(floor), await measure(ours)) for _ in range(ROUNDS)]
    return report(rounds)


async def measure_nothing(call: Call) -> None:
    """Let pollers and caches settle."""
    for _ in range(WARM_UP):
        await call()


def calls(dispatcher: Dispatcher, api_base: str) -> tuple[Call, Call]:
    """Our call, and the floor's."""
    spec = ModelSpec(name="openai/gpt-4o-mini", api_base=api_base)
    client: Client = dispatcher._client
    numbers = iter(range(10**9))

    async def ours() -> object:
        return await dispatcher.call(spec, "Name a prime.")

    async def floor() -> object:
        return await client.execute_workflow(FLOOR_WORKFLOW, id=f"floor-{next(numbers)}", task_queue=FLOOR_QUEUE)

    return ours, floor


def report(rounds: list[tuple[Round, Round]]) -> int:
    """Print the medians and their ratios; write them with every round; 0 when each bar is met."""
    floor, ours = (
        Round(*(statistics.median(getattr(pair[kind], name) for pair in rounds) for name in Round.__annotations__))
        for kind in (0, 1)
    )
    bars = {
        "p50, one caller": (ours.alone_p50_ms / floor.alone_p50_ms, "<=", BAR_P50),
        f"calls a second, {CALLERS} callers": (ours.rate_per_s / floor.rate_per_s, ">=", BAR_RATE),
        f"p99 / p50, {CALLERS} callers": (ours.p99_ms / ours.p50_ms, "<=", BAR_SPREAD),
    }
    table = Table("", "floor", "durable-llm", "ratio", "bar")
    table.add_row(
        "p50 of one caller, ms",
        f"{floor.alone_p50_ms:.1f}",
        f"{ours.alone_p50_ms:.1f}",
        *shown(bars, "p50, one caller"),
    )
    name = f"calls a second, {CALLERS} callers"
    table.add_row(name, f"{floor.rate_per_s:.1f}", f"{ours.rate_per_s:.1f}", *shown(bars, name))
    name = f"p99 / p50, {CALLERS} callers"
    table.add_row(name, f"{floor.p99_ms / floor.p50_ms:.2f}", f"{ours.p99_ms / ours.p50_ms:.2f}", *shown(bars, name))
    Console().print(table)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps([{"floor": asdict(one), "ours": asdict(two)} for one, two in rounds], indent=1))
    met = all(value <= bar if sign == "<=" else value >= bar for value, sign, bar in bars.values())
    return 0 if met else 1


def shown(bars: dict[str, tuple[float, str, float]], name: str) -> tuple[str, str]:
    """Ratio and bar as cells."""
    value, sign, bar = bars[name]
    return f"{value:.2f}", f"{sign} {bar:g}"


if __name__ == "__main__":
    sys.stdout.flush()
    os._exit(asyncio.run(run()))
