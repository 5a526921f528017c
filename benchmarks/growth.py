"""`make bench-growth`: what a call costs with more attempts and longer prompts, and what its queries take."""

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import psutil
from rich.console import Console
from temporalio.client import Client

from benchmarks.held_provider import HeldProvider
from benchmarks.stand import Stand, cpu_s, own_cpu_s
from benchmarks.tables import Row, save, terminal
from durable_llm import Dispatcher, LLMConfig, ModelSpec, Policy
from durable_llm.store import open_store

REPORT: Final = Path(".durable-llm/bench/growth.json")

CALLS: Final = {1: 40, 8: 10, 100: 2}
"""How many calls are measured, by the attempts that each of them makes."""

PROMPTS: Final = {"1 KB": 1_000, "100 KB": 100_000, "1 MB": 1_000_000}
MANY: Final = 1_000
QUERIES: Final = 30
HELD: Final = "held"

STUBBORN: Final = Policy(
    max_attempts=MANY, backoff_initial=timedelta(milliseconds=1), backoff_cap=timedelta(milliseconds=1),
    rules={"server_error": "retry"},
)  # fmt: skip


@dataclass(frozen=True)
class GrownCall:
    """What a call takes: its history, its time in ms, and the CPU time in ms of each process."""

    attempts: int
    prompt_bytes: int
    events: int
    history_bytes: int
    wall_ms: float
    server_ms: float
    worker_ms: float
    caller_ms: float


@dataclass(frozen=True)
class Growth:
    """What was found."""

    calls: list[GrownCall]
    status_ms: float
    attempts_ms: float


HEADINGS: Final = (
    "attempts", "prompt, KB", "events", "history, KB", "time, ms", "CPU ms a call: server", "worker", "caller"
)  # fmt: skip


def rows(growth: Growth) -> Iterable[Row]:
    """One row for each kind of call, as HEADINGS names the columns."""
    for one in growth.calls:
        yield (
            str(one.attempts), f"{one.prompt_bytes / 1e3:.0f}", str(one.events), f"{one.history_bytes / 1e3:.1f}",
            f"{one.wall_ms:.0f}", f"{one.server_ms:.1f}", f"{one.worker_ms:.1f}", f"{one.caller_ms:.1f}",
        )  # fmt: skip


def queries_text(growth: Growth) -> str:
    """What the queries take."""
    return (
        f"While a call makes its attempt {MANY:,}, `status()` takes {growth.status_ms:.1f} ms and `attempts()` "
        f"{growth.attempts_ms:.1f} ms (bar: 50 ms)."
    )


@dataclass(frozen=True)
class Measured:
    """The server's and the worker's process, and a dispatcher in this one."""

    server: psutil.Process
    worker: psutil.Process
    client: Client
    dispatcher: Dispatcher
    provider: str

    async def call(self, attempts: int, prompt: str) -> GrownCall:
        """What one of several equal calls takes."""
        spec = self.failing(attempts - 1)
        await self.dispatcher.call(spec, prompt, policy=STUBBORN)
        before, began = self._cpu_s(), time.perf_counter()
        for number in range(CALLS[attempts]):
            call_id = f"{attempts}-{len(prompt)}-{number}"
            await self.dispatcher.call(spec, prompt, policy=STUBBORN, call_id=call_id)
        took = time.perf_counter() - began
        cpu = [(now - then) / CALLS[attempts] * 1e3 for now, then in zip(self._cpu_s(), before, strict=True)]
        info = (await self.client.get_workflow_handle(call_id).describe()).raw_info
        return GrownCall(
            attempts, len(prompt), info.history_length, info.history_size_bytes, took / CALLS[attempts] * 1e3, *cpu
        )

    def failing(self, failures: int) -> ModelSpec:
        """A model that answers after so many failures."""
        return ModelSpec(name="openai/gpt-4o-mini", api_base=f"{self.provider}/{failures}/v1", max_retries=MANY)

    def _cpu_s(self) -> tuple[float, float, float]:
        return cpu_s(self.server), cpu_s(self.worker), own_cpu_s()

    async def queries(self, held: HeldProvider) -> tuple[float, float]:
        """What `status()` and `attempts()` take while a call makes its last of MANY attempts, in ms."""
        first = self.failing(MANY).model_copy(update={"max_retries": MANY - 2})
        last = ModelSpec(name=f"openai/{HELD}", api_base=held.api_base)
        handle = await self.dispatcher.submit(LLMConfig(models=[first, last]), "Name a prime.", policy=STUBBORN)
        await held.asked(1)
        if (status := await handle.status()).attempts != MANY:
            raise AssertionError(status)
        taken = await median_ms(handle.status), await median_ms(handle.attempts)
        await held.release(over_s=0)
        await handle.result()
        return taken


async def median_ms(ask: Callable[[], Awaitable[object]]) -> float:
    """The median time of an answer."""
    times = []
    for _ in range(QUERIES):
        began = time.perf_counter()
        await ask()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3


async def run() -> Growth:
    """Measure."""
    async with AsyncExitStack() as stack:
        stand = Stand(stack)
        stand.env["DURABLE_LLM_STORE"] = f"file://{stack.enter_context(TemporaryDirectory())}"
        await stand.build()
        client = await stand.client()
        dispatcher = await stack.enter_async_context(
            Dispatcher(client, store=open_store(stand.env["DURABLE_LLM_STORE"]))
        )
        worker = await stand.worker()
        provider = stand.env["OPENAI_BASE_URL"].removesuffix("/v1")
        measured = Measured(stand.servers["temporal"], worker, client, dispatcher, provider)
        calls = [await measured.call(attempts, "x" * size) for attempts in CALLS for size in PROMPTS.values()]
        held = await stack.enter_async_context(HeldProvider(HELD).serving())
        return Growth(calls, *await measured.queries(held))


def main() -> None:
    """Measure, print and write the report."""
    growth = asyncio.run(run())
    console = Console(width=120)
    console.print(terminal(HEADINGS, rows(growth)))
    console.print(queries_text(growth))
    save(REPORT, asdict(growth))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
