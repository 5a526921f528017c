"""`make outage`: the Temporal server is away while answers arrive, once killed and once stopped.

Every answer was paid for, so each must be delivered when the server is back, and no request sent again. The server is
a process; worker and provider are here, and the provider releases its answers one by one while the server is away.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal, Self, get_args

from rich.console import Console
from rich.table import Table
from temporalio.client import Client
from temporalio.worker import Worker

from benchmarks.held_provider import HeldProvider
from benchmarks.tables import save
from durable_llm import CallHandle, Dispatcher, DispatcherUnavailableError, LLMResult, ModelSpec, Outcome
from durable_llm.client.connection import connect_client
from workers.dev.ports import LOOPBACK
from workers.dev.server import DevServer, ServerOptions
from workers.plugin import build_attempts
from workers.settings import WorkerSettings
from workers.worker import build_worker

ANSWERS: Final = 50
AWAY_S: Final = 30.0
REPORT: Final = Path(".durable-llm/bench/outage.json")

_HELD: Final = "held"
_QUEUE: Final = "outage"
_BACK_WITHIN_S: Final = 90.0
"""Seconds that the last result may take once the server is back."""

_IMPATIENT: Final = timedelta(seconds=1)


Kind = Literal["killed", "stopped"]


@dataclass(frozen=True, kw_only=True)
class Outage:
    """What is to happen."""

    kind: Kind
    """By SIGKILL, and started again on its file; or by SIGSTOP and SIGCONT."""
    away_s: float = AWAY_S
    answers: int = ANSWERS
    """How many answers arrive meanwhile."""
    heartbeat_timeout_s: float = 60.0


@dataclass(frozen=True, kw_only=True)
class Found:
    """What came of the calls that were open when the server left, and of what was asked meanwhile."""

    answered: int
    requests: int
    unknown: int
    """Attempts of unknown outcome."""
    submit_gave_up_s: float
    """Seconds until a submission gave up that would wait for one second."""
    status_gave_up_s: float
    """Seconds until `status()` gave up."""
    submitted_meanwhile: bool
    """Whether a submission without a limit, made meanwhile, was answered."""
    back_s: float
    """Seconds from the server's return until the last result."""


class MortalServer:
    """The embedded server on a file, which comes back where it was.

    Attributes:
        server: The one that runs, or ran last.
    """

    server: DevServer

    def __init__(self, data: Path) -> None:
        self._options = ServerOptions(port=0, ui_port=None, data=data)
        self._running = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.child.signal(signal.SIGCONT)
        await self._running.aclose()

    @asynccontextmanager
    async def away(self, kind: Kind) -> AsyncIterator[None]:
        """The server is away while the block runs."""
        if kind == "stopped":
            self.server.child.signal(signal.SIGSTOP)
            yield
            self.server.child.signal(signal.SIGCONT)
        else:
            self.server.child.signal(signal.SIGKILL)
            await self._running.aclose()
            yield
            await self._start()

    async def _start(self) -> None:
        self.server = await self._running.enter_async_context(DevServer(self._options))
        self._options = replace(self._options, port=int(self.server.address.rpartition(":")[2]))


class Play:
    """One outage: its parts, and the order of events."""

    def __init__(self, outage: Outage, provider: HeldProvider, server: MortalServer, dispatcher: Dispatcher) -> None:
        self._outage = outage
        self._provider = provider
        self._server = server
        self._dispatcher = dispatcher

    async def run(self) -> Found:
        """Let the server leave while requests are open, and return after their answers came."""
        handles = await asyncio.gather(*(self._submit(_HELD) for _ in range(self._outage.answers)))
        results = [asyncio.create_task(handle.result()) for handle in handles]
        await self._provider.asked(len(handles))
        async with self._server.away(self._outage.kind):
            releasing = asyncio.create_task(self._provider.release(over_s=self._outage.away_s * 0.8))
            meanwhile = asyncio.create_task(self._dispatcher.call(self._spec("other"), "Name a prime."))
            submit_gave_up_s = await seconds_until_unavailable(self._submit("other", wait=_IMPATIENT))
            status_gave_up_s = await seconds_until_unavailable(handles[0].status())
            await asyncio.sleep(self._outage.away_s - submit_gave_up_s - status_gave_up_s)
            await releasing
        back = time.perf_counter()
        async with asyncio.timeout(_BACK_WITHIN_S):
            ends = await asyncio.gather(*results, return_exceptions=True)
            other = await meanwhile
        answered = [end for end in ends if isinstance(end, LLMResult)]
        return Found(
            answered=len(answered), requests=self._provider.requests[_HELD],
            unknown=sum(entry.outcome == Outcome.UNKNOWN for end in answered for entry in end.attempts),
            submit_gave_up_s=submit_gave_up_s, status_gave_up_s=status_gave_up_s,
            submitted_meanwhile=bool(other.text), back_s=time.perf_counter() - back,
        )  # fmt: skip

    async def _submit(self, model: str, wait: timedelta | None = None) -> CallHandle:
        return await self._dispatcher.submit(self._spec(model), "Name a prime.", wait=wait)

    def _spec(self, model: str) -> ModelSpec:
        return ModelSpec(name=f"openai/{model}", api_base=self._provider.api_base)


async def play(outage: Outage, data: Path) -> Found:
    """Set up server, provider, worker and dispatcher, and play the outage.

    Args:
        outage: What is to happen.
        data: The server's database file, which does not exist yet.
    """
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(MortalServer(data))
        provider = await stack.enter_async_context(HeldProvider(_HELD).serving())
        os.environ["TEMPORAL_ADDRESS"] = server.server.address
        client = await connect_client(wait=timedelta(seconds=30))
        await stack.enter_async_context(worker_for(client, outage))
        dispatcher = await stack.enter_async_context(Dispatcher(client, task_queue=_QUEUE))
        return await Play(outage, provider, server, dispatcher).run()


def worker_for(client: Client, outage: Outage) -> Worker:
    """A worker with the outage's heartbeats."""
    settings = WorkerSettings(
        task_queue=_QUEUE, api_base_hosts=LOOPBACK, heartbeat_timeout_s=outage.heartbeat_timeout_s,
        graceful_shutdown_s=0.0,
    )  # fmt: skip
    return build_worker(client, settings, build_attempts(settings, {}))


async def seconds_until_unavailable(ask: Awaitable[object]) -> float:
    """How long it took to say that the server does not answer."""
    began = time.perf_counter()
    try:
        await ask
    except DispatcherUnavailableError:
        return time.perf_counter() - began
    raise AssertionError("the server was away and something answered")


async def run() -> int:
    """Play both kinds, print and write what was found; 0 when nothing was lost and nothing asked twice."""
    found: dict[str, Found] = {}
    for kind in get_args(Kind):
        with TemporaryDirectory() as folder:
            found[kind] = await play(Outage(kind=kind), Path(folder) / "server.db")
    table = Table(f"{ANSWERS} answers while the server is away for {AWAY_S:g} s", *found)
    for name in Found.__annotations__:
        table.add_row(name.replace("_", " "), *(_shown(getattr(one, name)) for one in found.values()))
    Console().print(table)
    save(REPORT, {kind: asdict(one) for kind, one in found.items()})
    whole = all(one.answered == one.requests == ANSWERS and not one.unknown for one in found.values())
    return 0 if whole else 1


def _shown(value: float) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    code = asyncio.run(run())
    sys.stdout.flush()
    os._exit(code)
