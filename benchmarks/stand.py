"""What measurements stand on: a provider and servers as processes of their own, and the CPU time that they take."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from tempfile import TemporaryDirectory
from typing import Final

import psutil
from temporalio.client import Client

from durable_llm.client.connection import connect_client
from tests.support.postgres import PASSWORD, USER, installed_postgres
from workers.dev.children import Child
from workers.dev.ports import LOOPBACK, free_port
from workers.dev.server import DevServer, ServerOptions

WORKER: Final = (sys.executable, "-m", "workers")
READY_WITHIN_S: Final = 60.0


def cpu_s(process: psutil.Process) -> float:
    """The seconds of CPU of a process and its descendants, those that have ended included."""
    return sum(sum(one.cpu_times()[:4]) for one in (process, *process.children(recursive=True)))


def own_cpu_s() -> float:
    """The seconds of CPU of this process alone."""
    return sum(psutil.Process().cpu_times()[:2])


@dataclass
class Stand:
    """A provider, servers and workers that end with `stack`.

    Attributes:
        env: What the environment of workers and callers needs.
        servers: The servers' processes, by kind.
    """

    stack: AsyncExitStack
    env: dict[str, str] = field(default_factory=dict)
    servers: dict[str, psutil.Process] = field(default_factory=dict)

    async def build(self, needed: Iterable[str | None] = ("temporal",)) -> None:
        """Start the provider, and the servers that are needed: "temporal", "postgres"."""
        port = free_port()
        provider = await Child.start("provider", [sys.executable, "-m", "benchmarks.provider", str(port)])
        self.stack.push_async_callback(provider.stop)
        self.env |= {
            "DURABLE_LLM_API_BASE_HOSTS": LOOPBACK, "DURABLE_LLM_LOG_LEVEL": "WARNING", "OPENAI_API_KEY": "none",
            "OPENAI_AGENTS_DISABLE_TRACING": "1", "OPENAI_BASE_URL": f"http://{LOOPBACK}:{port}/v1",
            "PYTHONPATH": os.getcwd(),
        }  # fmt: skip
        if "temporal" in needed:
            server = await self.stack.enter_async_context(DevServer(ServerOptions(port=0, ui_port=None, data=None)))
            self.env |= {name: value for name, value in server.env.items() if value is not None}
            self.servers["temporal"] = psutil.Process(server.child.pid)
        if "postgres" in needed:
            postgres = self.stack.enter_context(installed_postgres())
            self.servers["postgres"] = psutil.Process(self.stack.enter_context(postgres.running()))
            self.env["BENCH_POSTGRES"] = f"postgresql://{USER}:{PASSWORD}@{LOOPBACK}:{postgres.port}/bench"
        self.env["BENCH_SQLITE"] = f"sqlite:///{self.stack.enter_context(TemporaryDirectory())}/bench.sqlite"

    async def client(self) -> Client:
        """A client of the Temporal server, in this process."""
        os.environ["TEMPORAL_ADDRESS"] = self.env["TEMPORAL_ADDRESS"]
        return await connect_client(wait=timedelta(seconds=READY_WITHIN_S))

    async def worker(
        self, command: Sequence[str] = WORKER, on_line: Callable[[str], None] = lambda _: None
    ) -> psutil.Process:
        """Start a worker and wait until it is ready.

        Args:
            command: Its program and arguments.
            on_line: Called with each line that it prints.
        """
        ready = asyncio.Event()

        def read(line: str) -> None:
            if "ready" in line:
                ready.set()
            on_line(line)

        worker = await Child.start("worker", command, env=self.env, on_line=read)
        self.stack.push_async_callback(worker.stop)
        async with asyncio.timeout(READY_WITHIN_S):
            await ready.wait()
        return psutil.Process(worker.pid)
