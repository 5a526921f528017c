"""`make bench-front`: what the front adds to `dispatcher.call`, beside what litellm's proxy adds to its provider.

A hundred clients send ten requests a second together, each at its own pace; then as many as are answered. The client is
the same for both servers, and what is below them is measured in the same way.
"""

import asyncio
import os
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import aiohttp
import psutil
import yaml  # type: ignore[import-untyped]  # its annotations are a package of their own
from rich.console import Console

from benchmarks.stand import READY_WITHIN_S, Stand, cpu_s
from benchmarks.tables import Row, save, terminal
from durable_llm import Dispatcher
from workers.dev.children import Child
from workers.dev.ports import LOOPBACK, free_port

REPORT: Final = Path(".durable-llm/bench/front.json")
PROXY: Final = Path(".durable-llm/bench/litellm-proxy/bin/litellm")
CLIENTS: Final = 100
PERIOD_S: Final = 10.0
"""Seconds between a client's requests."""

TURNS: Final = 6
"""Requests of each client at its own pace."""

AT_ONCE: Final = 1000
"""Requests of all clients together, as fast as they are answered."""

HEADINGS: Final = (
    "asked",
    "p50 ms",
    "p99 ms",
    "added p50",
    "added p99",
    "CPU ms of the server",
    "requests/s",
)
BODY: Final[dict[str, Any]] = {"model": "fast", "messages": [{"role": "user", "content": "What is the time?"}]}

_KEY: Final = "sk-for-a-measurement-on-loopback-only"
"""litellm's proxy does not start without a key."""

Ask = Callable[[int], Awaitable[Any]]


@dataclass(frozen=True)
class Measured:
    """What requests took.

    Attributes:
        name: Who was asked.
        below: Who it asks in turn; "" for nobody that is measured.
        p50_ms: Milliseconds of a request, the median.
        p99_ms: As above, the 99th percentile.
        cpu_ms: CPU time of the server for a request, 0 for what has no server of its own.
        per_s: Requests answered in a second where all clients ask at once.
    """

    name: str
    below: str
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    per_s: float


def rows(found: Iterable[Measured]) -> Iterable[Row]:
    """One row for each measurement, as HEADINGS names the columns."""
    by_name = {one.name: one for one in found}
    for one in by_name.values():
        below = by_name.get(one.below)
        added = (f"{one.p50_ms - below.p50_ms:.1f}", f"{one.p99_ms - below.p99_ms:.1f}") if below else ("", "")
        cpu = f"{one.cpu_ms:.1f}" if one.cpu_ms else ""
        yield (one.name, f"{one.p50_ms:.1f}", f"{one.p99_ms:.1f}", *added, cpu, f"{one.per_s:.0f}")


async def measure(name: str, below: str, ask: Ask, server: psutil.Process | None = None) -> Measured:
    """Ask at a pace, then without pause."""
    await asyncio.gather(*(ask(number) for number in range(20)))
    taken: list[float] = []
    used = cpu_s(server) if server else 0.0

    async def at_its_pace(client: int) -> None:
        await asyncio.sleep(random.random() * PERIOD_S)  # noqa: S311  # spreads clients, no secret
        for turn in range(TURNS):
            begun = time.perf_counter()
            await ask(1000 + client * TURNS + turn)
            taken.append((time.perf_counter() - begun) * 1e3)
            await asyncio.sleep(max(0.0, PERIOD_S - (time.perf_counter() - begun)))

    await asyncio.gather(*(at_its_pace(client) for client in range(CLIENTS)))
    used = (cpu_s(server) - used) / len(taken) * 1e3 if server else 0.0
    left = iter(range(10_000, 10_000 + AT_ONCE))

    async def without_pause() -> None:
        for number in left:
            await ask(number)

    begun = time.perf_counter()
    await asyncio.gather(*(without_pause() for _ in range(CLIENTS)))
    percentiles = statistics.quantiles(taken, n=100)
    return Measured(name, below, percentiles[49], percentiles[98], used, AT_ONCE / (time.perf_counter() - begun))


class Http:
    """Asks an address for chat completions, with a key of its own for each."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self._session = session
        self._url = f"{base}/chat/completions"

    async def ask(self, number: int) -> None:
        """One request."""
        headers = {"Idempotency-Key": f"{number}", "Authorization": f"Bearer {_KEY}"}
        async with self._session.post(self._url, json=BODY, headers=headers) as response:
            body = await response.json()
            if response.status != 200:
                raise RuntimeError(f"{self._url} answered {response.status}: {body}")


async def run() -> list[Measured]:
    """Measure the provider, litellm's proxy before it, a call, and the front before calls."""
    async with AsyncExitStack() as stack:
        stand = Stand(stack)
        await stand.build()
        await stand.worker()
        directory = Path(stack.enter_context(TemporaryDirectory()))
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CLIENTS)))
        provider = stand.env["OPENAI_BASE_URL"]
        dispatcher = await stack.enter_async_context(Dispatcher(await stand.client()))

        async def call(number: int) -> None:
            await dispatcher.call("openai/gpt-4o-mini", BODY["messages"], call_id=f"call-{number}")

        proxy, proxied = await _proxy(stand, directory)
        front, fronted = await _front(stand, directory)
        return [
            await measure("the provider", "", Http(session, provider).ask),
            await measure("litellm's proxy", "the provider", Http(session, proxy).ask, proxied),
            await measure("dispatcher.call", "", call),
            await measure("durable-llm serve", "dispatcher.call", Http(session, front).ask, fronted),
        ]


async def _front(stand: Stand, directory: Path) -> tuple[str, psutil.Process]:
    (directory / "chains.yaml").write_text(yaml.safe_dump({"fast": {"models": ["openai/gpt-4o-mini"]}}))
    port = free_port()
    stand.env |= {"DURABLE_LLM_CHAINS": str(directory / "chains.yaml"), "DURABLE_LLM_FRONT_PORT": str(port)}
    return f"http://{LOOPBACK}:{port}/v1", await stand.worker([sys.executable, "-m", "durable_llm.cli", "serve"])


async def _proxy(stand: Stand, directory: Path) -> tuple[str, psutil.Process]:
    """Litellm's proxy without a database, as its documents start it."""
    params = {"model": "openai/gpt-4o-mini", "api_base": stand.env["OPENAI_BASE_URL"], "api_key": "none"}
    config = {"model_list": [{"model_name": "fast", "litellm_params": params}]}
    (directory / "proxy.yaml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = [str(PROXY), "--config", str(directory / "proxy.yaml"), "--host", LOOPBACK, "--port", str(port)]
    proxy = await Child.start("proxy", command, env={**stand.env, "PYTHONPATH": None, "LITELLM_MASTER_KEY": _KEY})
    stand.stack.push_async_callback(proxy.stop)
    async with asyncio.timeout(READY_WITHIN_S), aiohttp.ClientSession() as session:
        while not await _answers(session, f"http://{LOOPBACK}:{port}/health/liveliness"):  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.2)
    return f"http://{LOOPBACK}:{port}/v1", psutil.Process(proxy.pid)


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


def main() -> None:
    """Measure, print and write the report."""
    found = asyncio.run(run())
    Console(width=140).print(terminal(HEADINGS, rows(found)))
    save(REPORT, [asdict(one) for one in found])


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
