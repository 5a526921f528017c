"""A store whose moods a test decides, and a worker that reads from a store."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from temporalio.client import Client

from durable_llm import Dispatcher
from durable_llm.store import ContentMissingError, Store
from tests.support.workers import working


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
    options = {"store": store, "heartbeat_timeout_s": 20.0}
    async with working(client, worker_store=worker_store, **options) as dispatcher, asyncio.timeout(90):
        yield dispatcher
