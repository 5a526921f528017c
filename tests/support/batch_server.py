"""OpenAI's Batch API whose lines end as a test says; llmock answers every line."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from tests.support.calls import completion


class BatchServer:
    """OpenAI's Batch API, whose lines end as the test says, and its live endpoint."""

    def __init__(self, line: Callable[[dict], tuple[int, dict] | None]) -> None:
        self._line = line
        self.batches: list[list[dict]] = []
        self.files: dict[str, str] = {}
        self.live: list[dict] = []
        self.cancelled: list[str] = []
        self.polled = False
        self.refuses: tuple[int, dict] | None = None
        self.ended = asyncio.Event()
        self.ended.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Its address."""
        app = web.Application()
        app.router.add_post("/v1/files", self._upload)
        app.router.add_get("/v1/files/{id}/content", self._content)
        app.router.add_post("/v1/batches", self._create)
        app.router.add_get("/v1/batches/{id}", self._fetch)
        app.router.add_post("/v1/batches/{id}/cancel", self._cancel)
        app.router.add_post("/v1/chat/completions", self._live)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        finally:
            await runner.cleanup()

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        file: Any = form["file"]
        self.files[name := f"file-{len(self.files)}"] = file.file.read().decode()
        return web.json_response({"id": name})

    async def _create(self, request: web.Request) -> web.Response:
        if self.refuses is not None:
            return web.json_response(self.refuses[1], status=self.refuses[0])
        body = await request.json()
        self.batches.append([json.loads(line) for line in self.files[body["input_file_id"]].splitlines()])
        number, lines = len(self.batches) - 1, []
        for line in self.batches[-1]:
            if (ended := self._line(line["body"])) is not None:
                response = {"status_code": ended[0], "body": ended[1]}
                lines.append(json.dumps({"custom_id": line["custom_id"], "response": response, "error": None}))
        self.files[f"out-{number}"] = "\n".join(lines)
        return web.json_response({"id": f"batch-{number}", "status": "validating"})

    async def _fetch(self, request: web.Request) -> web.Response:
        self.polled = True
        if not self.ended.is_set():
            return web.json_response({"status": "in_progress"})
        number = request.match_info["id"].partition("-")[2]
        return web.json_response({"status": "completed", "output_file_id": f"out-{number}"})

    async def _content(self, request: web.Request) -> web.Response:
        return web.Response(text=self.files[request.match_info["id"]])

    async def _cancel(self, request: web.Request) -> web.Response:
        self.cancelled.append(request.match_info["id"])
        return web.json_response({})

    async def _live(self, request: web.Request) -> web.Response:
        self.live.append(await request.json())
        return web.json_response(completion("live"))
