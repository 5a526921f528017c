"""`make bench-handles`: 2,000 results awaited in one process, and a fresh call beside them at normal speed.

The server has Temporal's own default of 1,200 long polls a namespace. The awaited calls find no worker at first, so
that all of them wait at once; then a worker comes, and every result must arrive. An argument sets another number of
long polls than the dispatcher's default: with 5000 each handle keeps its own, as Temporal's SDK does by itself.
"""

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table
from temporalio.client import Client

from benchmarks.tables import save
from durable_llm import CallHandle, Dispatcher, LLMResult, ModelSpec
from durable_llm.client.connection import connect_client
from durable_llm.client.long_polls import DEFAULT_LIMIT
from workers.dev.children import Child
from workers.dev.ports import free_port
from workers.dev.server import DevServer, ServerOptions

HANDLES = 2_000
SERVED = 1_200
SUBMITTERS = 50
FRESH = 60
SPACING_S = 0.25
"""Fresh calls are spread over 15 s and more, so that what the waiting handles do now and then falls on some of them."""

BAR_RATIO = 3.0
MARGIN_S = 0.1
ALL_RESULTS_WITHIN_S = 300.0
REPORT = Path(".durable-llm/bench/handles.json")


async def run(max_long_polls: int) -> int:
    """Measure, print and write the figures; the exit status says whether the bars are met."""
    async with AsyncExitStack() as stack:
        options = ServerOptions(port=0, ui_port=None, data=None, long_polls=SERVED)
        server = await stack.enter_async_context(DevServer(options))
        os.environ["TEMPORAL_ADDRESS"] = server.address
        api_base = await start_provider(stack)
        spec = ModelSpec(name="openai/gpt-4o-mini", api_base=api_base)
        client = await connect_client(wait=timedelta(seconds=30))
        submits = Dispatcher(client, task_queue="fresh")
        awaits = await stack.enter_async_context(
            Dispatcher(client, task_queue="waiting", max_long_polls=max_long_polls)
        )

        async def fresh_call() -> None:
            handle = await submits.submit(spec, "Name a prime.")
            await awaits.attach(handle.call_id).result()

        await start_worker(stack, "fresh")
        await times_of(fresh_call)  # pollers and caches settle
        idle = await times_of(fresh_call)
        handles = await submit(awaits, spec)
        results = [asyncio.create_task(handle.result()) for handle in handles]
        beside = await times_of(fresh_call)
        still_waiting = sum(not result.done() for result in results)
        await start_worker(stack, "waiting")
        began = time.perf_counter()
        ends = await ended(results)
        took = time.perf_counter() - began
        lag = await since_last_call_closed(client, handles)
    return report(idle, beside, still_waiting, ends, took, lag)


async def start_provider(stack: AsyncExitStack) -> str:
    """Start the provider; returns its address."""
    port = free_port()
    provider = await Child.start("provider", [sys.executable, "-m", "benchmarks.provider", str(port)])
    stack.push_async_callback(provider.stop)
    return f"http://127.0.0.1:{port}/v1"


async def start_worker(stack: AsyncExitStack, task_queue: str) -> None:
    """Start a worker process for one queue."""
    env = {
        "DURABLE_LLM_TASK_QUEUE": task_queue, "DURABLE_LLM_API_BASE_HOSTS": "127.0.0.1",
        "DURABLE_LLM_LOG_LEVEL": "WARNING",
    }  # fmt: skip
    worker = await Child.start("worker", [sys.executable, "-m", "workers"], env=env)
    stack.push_async_callback(worker.stop)


async def times_of(call: Callable[[], Awaitable[None]]) -> list[float]:
    """Seconds that each of FRESH calls took, one after the other."""
    times = []
    for _ in range(FRESH):
        began = time.perf_counter()
        await call()
        times.append(time.perf_counter() - began)
        await asyncio.sleep(SPACING_S)
    return times


async def submit(dispatcher: Dispatcher, spec: ModelSpec) -> list[CallHandle]:
    """Submit HANDLES calls."""
    turns = asyncio.Semaphore(SUBMITTERS)

    async def one() -> CallHandle:
        async with turns:
            return await dispatcher.submit(spec, "Name a prime.")

    return await asyncio.gather(*(one() for _ in range(HANDLES)))


async def ended(results: Iterable[asyncio.Task[LLMResult]]) -> list[LLMResult | BaseException]:
    """All results, or what came in their place."""
    try:
        async with asyncio.timeout(ALL_RESULTS_WITHIN_S):
            return await asyncio.gather(*results, return_exceptions=True)
    except TimeoutError as error:
        return [error]


async def since_last_call_closed(client: Client, handles: Iterable[CallHandle]) -> float:
    """Seconds between the last call's end on the server and now."""
    now = time.time()
    closed = [
        description.close_time.timestamp()
        for handle in handles
        if (description := await client.get_workflow_handle(handle.call_id).describe()).close_time
    ]
    return now - max(closed)


def report(
    idle: list[float], beside: list[float], still_waiting: int, ends: list[LLMResult | BaseException], took: float,
    lag: float,
) -> int:  # fmt: skip
    """Print and write the figures; 0 when each bar is met."""
    answered = sum(isinstance(end, LLMResult) for end in ends)
    ratio = statistics.median(beside) / statistics.median(idle)
    table = Table("", "alone", f"beside {still_waiting} awaited")
    table.add_row("fresh call p50, ms", *(f"{statistics.median(times) * 1e3:.0f}" for times in (idle, beside)))
    table.add_row("fresh call worst, ms", *(f"{max(times) * 1e3:.0f}" for times in (idle, beside)))
    console = Console()
    console.print(table)
    console.print(
        f"{answered} of {HANDLES} results came within {took:.0f} s of a worker's start, "
        f"the last {lag:.1f} s after the last call's end"
    )
    figures = {
        "handles": HANDLES, "awaited_at_once": still_waiting, "fresh_alone_s": idle, "fresh_beside_s": beside,
        "answered": answered, "all_results_s": took, "last_result_after_its_call_s": lag,
    }  # fmt: skip
    save(REPORT, figures)
    quick = statistics.median(beside) <= BAR_RATIO * statistics.median(idle) + MARGIN_S
    console.print(f"p50 ratio {ratio:.2f}, bar {BAR_RATIO:g} (and {MARGIN_S * 1e3:.0f} ms)")
    return 0 if quick and still_waiting == answered == HANDLES else 1


if __name__ == "__main__":
    code = asyncio.run(run(int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_LIMIT))
    sys.stdout.flush()
    os._exit(code)
