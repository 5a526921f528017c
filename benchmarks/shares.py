"""`make bench-shares`: fifty interactive calls beside a batch of five thousand, and 200 calls that meet one budget.

Three workers each. The interactive calls come one after the other from ten callers, first alone and then behind the
batch of another tenant. What the provider received for the budget is counted from its journal, in ten runs.
"""

import asyncio
import os
import statistics
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import yaml  # type: ignore[import-untyped]  # its annotations are a package of their own
from rich.console import Console

from benchmarks.stand import Stand
from benchmarks.tables import Row, save, terminal
from durable_llm import Budget, BudgetExceededError, Dispatcher, LLMConfig, ModelSpec
from tests.harness.parts.provider import Provider, journal

REPORT: Final = Path(".durable-llm/bench/shares.json")
SHARED_HEADINGS: Final = ("alone p50 s", "p95 s", "beside the batch p50 s", "p95 s", "p95 by alone", "batch calls left")
SPENT_HEADINGS: Final = ("requests", "answered", "refused")
WORKERS: Final = 3
BATCH: Final = 5_000
INTERACTIVE: Final = 50
CALLERS: Final = 10
LATENCY_MS: Final = 500
SUBMITTED_AT_ONCE: Final = 50
SETTLING_S: Final = 5.0
"""Seconds after the last submission: until then two cores are busy with taking five thousand calls."""
SLOTS: Final = 4
"""Attempts at once in each worker, so that the batch has to wait."""

RUNS: Final = 10
CALLS: Final = 200
WORTH: Final = 100
_PRICE: Final = 1000.0
"""USD for a million tokens of output; an answer has twelve of the twenty that a request allows."""

_TOKENS: Final = 20
_PROMPT: Final = "Name a prime."
"""The same for all, so that all cost the same."""


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Seconds of the interactive calls."""

    alone_p50_s: float
    alone_p95_s: float
    beside_p50_s: float
    beside_p95_s: float
    batch_left: int
    """Calls of the batch that had not ended when the interactive ones had."""

    def row(self) -> Row:
        """For the table."""
        times = (self.alone_p50_s, self.alone_p95_s, self.beside_p50_s, self.beside_p95_s)
        return (*(f"{each:.2f}" for each in times), f"{self.beside_p95_s / self.alone_p95_s:.2f}", str(self.batch_left))


async def shared(stack: AsyncExitStack) -> Shared:
    """Measure interactive calls alone, and behind a batch."""
    provider, dispatcher = await _service(stack, {"DURABLE_LLM_MAX_CONCURRENT_ATTEMPTS": str(SLOTS)})
    spec = ModelSpec(name="openai/gpt-4o-mini", api_base=provider.api_base)
    await _interactive(dispatcher, spec)  # warm
    alone = await _interactive(dispatcher, spec)
    turns = asyncio.Semaphore(SUBMITTED_AT_ONCE)

    async def line(number: int) -> None:
        async with turns:
            await dispatcher.submit(spec, f"Line {number}.", tenant="batches", priority=4)

    await asyncio.gather(*(line(number) for number in range(BATCH)))
    await asyncio.sleep(SETTLING_S)
    beside = await _interactive(dispatcher, spec)
    left = await dispatcher.client.count_workflows("WorkflowType = 'LLMCall' AND ExecutionStatus = 'Running'")
    quantiles = [statistics.quantiles(times, n=100) for times in (alone, beside)]
    return Shared(
        alone_p50_s=quantiles[0][49], alone_p95_s=quantiles[0][94], beside_p50_s=quantiles[1][49],
        beside_p95_s=quantiles[1][94], batch_left=left.count,
    )  # fmt: skip


async def _interactive(dispatcher: Dispatcher, spec: ModelSpec) -> list[float]:
    """Seconds of each call, of callers that ask again as soon as they are answered."""
    times: list[float] = []
    left = iter(range(INTERACTIVE))

    async def caller() -> None:
        for number in left:
            began = time.perf_counter()
            await dispatcher.call(spec, f"Question {number}.", tenant="people")
            times.append(time.perf_counter() - began)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return times


@dataclass(frozen=True, kw_only=True)
class Spent:
    """One run against a budget."""

    requests: int
    answered: int
    refused: int

    def row(self) -> Row:
        """For the table."""
        return str(self.requests), str(self.answered), str(self.refused)


async def spent(stack: AsyncExitStack) -> list[Spent]:
    """Ten times two hundred calls at once, against the worth of a hundred."""
    prices = Path(stack.enter_context(TemporaryDirectory())) / "prices.yaml"
    prices.write_text(yaml.safe_dump({"openai/gpt-4o-mini": {"input": 0, "output": _PRICE}}))
    provider, dispatcher = await _service(stack, {"DURABLE_LLM_PRICES": str(prices)})
    spec = ModelSpec(name="openai/gpt-4o-mini", api_base=provider.api_base, extra_params={"max_tokens": _TOKENS})
    cost = (await dispatcher.call(spec, _PROMPT)).cost or 0.0
    runs: list[Spent] = []
    before = len(await journal(provider.root))
    for run in range(RUNS):
        budget = Budget(name=f"run-{run}", hard=WORTH * cost)
        ended = await asyncio.gather(
            *(dispatcher.call(LLMConfig(models=[spec]), _PROMPT, budget=budget) for _ in range(CALLS)),
            return_exceptions=True,
        )
        requests = len(await journal(provider.root)) - before
        before += requests
        refused = sum(isinstance(each, BudgetExceededError) for each in ended)
        answered = sum(not isinstance(each, BaseException) for each in ended)
        runs.append(Spent(requests=requests, answered=answered, refused=refused))
        Console(stderr=True).print(asdict(runs[-1]))
    return runs


async def _service(stack: AsyncExitStack, settings: dict[str, str]) -> tuple[Provider, Dispatcher]:
    options = ("--response-style", "hello", "--latency-ms", str(LATENCY_MS))
    provider = await stack.enter_async_context(Provider("openai", options=options))
    await provider.ready()
    stand = Stand(stack)
    await stand.build()
    stand.env |= settings
    for _ in range(WORKERS):
        await stand.worker()
    os.environ.update(stand.env)
    return provider, await stack.enter_async_context(Dispatcher.connect())


async def measure(parts: list[str]) -> None:
    """Measure, print and save."""
    console = Console()
    found: dict[str, Any] = {}
    if "shares" in parts:
        async with AsyncExitStack() as stack:
            shares = await shared(stack)
        console.print(terminal(SHARED_HEADINGS, [shares.row()]))
        found["shares"] = asdict(shares)
    if "budget" in parts:
        async with AsyncExitStack() as stack:
            runs = await spent(stack)
        console.print(terminal(SPENT_HEADINGS, [run.row() for run in runs]))
        found["budget"] = [asdict(run) for run in runs]
    save(REPORT, found)


if __name__ == "__main__":
    asyncio.run(measure(sys.argv[1:] or ["shares", "budget"]))
