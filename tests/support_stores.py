"""A store whose moods a test decides, and a worker that reads from a store."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from temporalio.client import Client
from temporalio.worker import Worker

from activities.attempt import ProviderAttempts
from durable_llm import Dispatcher
from durable_llm.store import ContentMissingError, Store
from tests.conftest import workflow_runner
from tests.support_attempts import ring
from workers.heartbeat_timeout import HeartbeatTimeout
from workflows.llm_call import LLMCall


class Memory:
    """A driver that keeps contents in memory and counts what it is asked."""

    place = "memory:/test"

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.puts = 0
        self.gets = 0
        self.mood: Callable[[], None] = lambda: None
        """Called before each transfer; may raise or block."""

    def put(self, name: str, content: bytes) -> None:
        self.puts += 1
        self.mood()
        self.contents[name] = content

    def get(self, name: str) -> bytes:
        self.gets += 1
        self.mood()
        if name not in self.contents:
            raise ContentMissingError(f"{self.place} does not hold {name}")
        return self.contents[name]

    def sweep(self, before) -> int:
        raise NotImplementedError

    def raising(self, error: Exception) -> None:
        """Fail each transfer from now on."""

        def mood() -> None:
            raise error

        self.mood = mood


@asynccontextmanager
async def asking(client: Client, store: Store | None, *, worker_store: Store | None) -> AsyncIterator[Dispatcher]:
    """A dispatcher with `store`, and a worker behind it that makes real requests and reads from `worker_store`."""
    queue = f"large-{uuid.uuid4()}"
    attempts = ProviderAttempts(ring(), store=worker_store, heartbeat_interval=timedelta(seconds=1))
    worker = Worker(
        client, task_queue=queue, workflows=[LLMCall], activities=[attempts.provider_attempt],
        workflow_runner=workflow_runner(), interceptors=[HeartbeatTimeout(timedelta(seconds=20))],
    )  # fmt: skip
    async with worker, Dispatcher(client, task_queue=queue, store=store) as dispatcher, asyncio.timeout(90):
        yield dispatcher
