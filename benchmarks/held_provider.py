"""A provider that keeps its answers until it is told to give them, and counts what it was asked."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from aiohttp import web

from benchmarks.provider import COMPLETION
from workers.dev.ports import LOOPBACK


class HeldProvider:
    """Answers at once, but for one model, whose requests wait to be released.

    Args:
        held_model: The model's name, as the provider is told it.

    Attributes:
        requests: How many requests came for each model.
        api_base: Its address, while it serves.
    """

    api_base: str

    def __init__(self, held_model: str) -> None:
        self.requests: Counter[str] = Counter()
        self._held_model = held_model
        self._waiting: list[asyncio.Event] = []
        self._one_more = asyncio.Condition()
        self._released = False

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Self]:
        """Serve on a free port of loopback."""
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._complete)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, LOOPBACK, 0).start()
        self.api_base = f"http://{LOOPBACK}:{runner.addresses[0][1]}/v1"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def asked(self, count: int) -> None:
        """Return once `count` requests wait."""
        async with self._one_more:
            await self._one_more.wait_for(lambda: len(self._waiting) >= count)

    async def release(self, over_s: float) -> None:
        """Answer what waits, one by one over `over_s` seconds, and whatever comes from now on at once."""
        self._released = True
        for waiting in self._waiting:
            await asyncio.sleep(over_s / len(self._waiting))
            waiting.set()

    async def _complete(self, request: web.Request) -> web.Response:
        model = (await request.json())["model"]
        self.requests[model] += 1
        if model == self._held_model and not self._released:
            waiting = asyncio.Event()
            self._waiting.append(waiting)
            async with self._one_more:
                self._one_more.notify_all()
            await waiting.wait()
        return web.json_response(COMPLETION)
