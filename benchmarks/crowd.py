"""`make bench-crowd`: a thousand attempts in flight in one worker, and 5,000 calls submitted at once by one process."""

import asyncio
import os
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import psutil
from rich.console import Console
from temporalio.client import Client

from benchmarks.held_provider import HeldProvider
from benchmarks.stand import Stand, cpu_s, own_cpu_s
from benchmarks.tables import Row, save, terminal
from durable_llm import CallHandle, Dispatcher, ModelSpec

REPORT: Final = Path(".durable-llm/bench/crowd.json")
IN_FLIGHT: Final = 1_000
SUBMITTED: Final = 5_000
SETTLE_S: Final = 10.0
IDLE_S: Final = 60.0
HELD: Final = "held"
LATER: Final = "later"
"""A task queue whose worker comes late."""


@dataclass(frozen=True)
class Crowd:
    """What was found. Memory in MB, CPU in cores.

    Attributes:
        worker_mb: Of the worker with its attempts in flight.
        lag_p99_ms: How late its event loop was, from the first of them to the last answer.
        submit_s: Seconds until all calls were submitted.
        client_mb: What this process took for them.
        idle_server: What the server takes while they are awaited and nothing happens.
        idle_client: What this process takes.
        known_p50_s: Seconds from a call's end on the server until its result is here, median.
        known_max_s: The longest.
    """

    worker_mb: float
    lag_p99_ms: float
    submit_s: float
    client_mb: float
    idle_server: float
    idle_client: float
    known_p50_s: float
    known_max_s: float


HEADINGS: Final = ("", "measured", "bar")


def rows(crowd: Crowd) -> Iterable[Row]:
    """Each figure with its bar."""
    idle = crowd.idle_server + crowd.idle_client
    yield f"memory of a worker with {IN_FLIGHT:,} attempts in flight", f"{crowd.worker_mb:.0f} MB", "< 700 MB"
    yield "lag of its event loop, p99", f"{crowd.lag_p99_ms:.0f} ms", "< 100 ms"
    yield f"{SUBMITTED:,} calls submitted by one process: until all are", f"{crowd.submit_s:.1f} s", ""
    yield "memory that they take in this process", f"{crowd.client_mb:.0f} MB", "bounded"
    yield "awaited idle: server and client together", f"{idle:.3f} cores", "< 0.1"
    yield "of that, the client", f"{crowd.idle_client:.3f} cores", ""
    yield "from an end on the server to its result here, median", f"{crowd.known_p50_s:.2f} s", ""
    yield "the longest of all", f"{crowd.known_max_s:.2f} s", "< 2 s"


async def in_flight(stand: Stand, dispatcher: Dispatcher, held: HeldProvider) -> tuple[float, float]:
    """Memory in MB and lag in ms of a worker with IN_FLIGHT attempts."""
    told: asyncio.Queue[str] = asyncio.Queue()
    worker = await stand.worker([sys.executable, "-m", "benchmarks.lagging_worker"], told.put_nowait)
    spec = ModelSpec(name=f"openai/{HELD}", api_base=held.api_base)
    handles = await asyncio.gather(*(dispatcher.submit(spec, "Name a prime.") for _ in range(IN_FLIGHT)))
    results = [asyncio.create_task(handle.result()) for handle in handles]
    await held.asked(IN_FLIGHT)
    memory = worker.memory_info().rss / 1e6
    await held.release(over_s=5)
    await asyncio.gather(*results)
    worker.send_signal(signal.SIGUSR1)
    while not (line := await told.get()).startswith("lag "):
        pass
    return memory, float(line.removeprefix("lag "))


async def submitted(stand: Stand, client: Client) -> tuple[float, float, float, float, float, float]:
    """The figures of SUBMITTED calls that find no worker at first."""
    us, server = psutil.Process(), stand.servers["temporal"]
    spec = ModelSpec(name="openai/gpt-4o-mini", api_base=stand.env["OPENAI_BASE_URL"])
    async with Dispatcher(client, task_queue=LATER) as dispatcher:
        memory, began = us.memory_info().rss, time.perf_counter()
        handles = await asyncio.gather(*(dispatcher.submit(spec, "Name a prime.") for _ in range(SUBMITTED)))
        submit_s = time.perf_counter() - began
        known: dict[str, float] = {}

        async def wait(handle: CallHandle) -> None:
            await handle.result()
            known[handle.call_id] = time.time()

        waiting = [asyncio.create_task(wait(handle)) for handle in handles]
        await asyncio.sleep(SETTLE_S)
        before = cpu_s(server), own_cpu_s()
        await asyncio.sleep(IDLE_S)
        idle_server, idle_client = (cpu_s(server) - before[0]) / IDLE_S, (own_cpu_s() - before[1]) / IDLE_S
        memory = us.memory_info().rss - memory
        stand.env["DURABLE_LLM_TASK_QUEUE"] = LATER
        await stand.worker()
        await asyncio.gather(*waiting)
    took = sorted([known[call_id] - ended async for call_id, ended in ends(client)])
    return submit_s, memory / 1e6, idle_server, idle_client, statistics.median(took), took[-1]


async def ends(client: Client) -> AsyncIterator[tuple[str, float]]:
    """When each call ended, by the server."""
    async for execution in client.list_workflows(f"TaskQueue = '{LATER}'"):
        if execution.close_time:
            yield execution.id, execution.close_time.timestamp()


async def run() -> Crowd:
    """Measure."""
    async with AsyncExitStack() as stack:
        stand = Stand(stack)
        await stand.build()
        client = await stand.client()
        held = await stack.enter_async_context(HeldProvider(HELD).serving())
        dispatcher = await stack.enter_async_context(Dispatcher(client))
        return Crowd(*await in_flight(stand, dispatcher, held), *await submitted(stand, client))


def main() -> None:
    """Measure, print and write the report."""
    crowd = asyncio.run(run())
    Console(width=120).print(terminal(HEADINGS, rows(crowd)))
    save(REPORT, asdict(crowd))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
