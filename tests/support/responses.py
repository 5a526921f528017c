"""A small Responses server with background mode: it keeps responses, and says when asked how far they are."""

import asyncio
import time
from contextlib import asynccontextmanager
from itertools import chain, count

from aiohttp import web

TEXT = {
    "id": "m", "type": "message", "role": "assistant", "status": "completed",
    "content": [{"type": "output_text", "text": "seven", "annotations": []}],
}  # fmt: skip
CALL = {
    "id": "fc_1", "type": "function_call", "call_id": "call_1", "status": "completed", "name": "get_weather",
    "arguments": '{"city": "Rome"}',
}  # fmt: skip

UNDER_WAY = "under way"
DROPPED = "dropped"
Look = dict | int | tuple | str
"""What a question meets: a response's end, an error's status, that with headers, UNDER_WAY, or a dropped connection."""


def response(*output: dict, **fields) -> dict:
    """A response of OpenAI's with these items."""
    return {
        "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "error": None, "tools": [],
        "model": "gpt-4o-mini-2024-07-18", "incomplete_details": None, "instructions": None, "metadata": {},
        "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto", "top_p": 1.0, "output": list(output),
        "usage": {"input_tokens": 12, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 3,
                  "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 15}, **fields,
    }  # fmt: skip


class ResponsesServer:
    """Begins a response for each POST; `looks` are what the questions meet in turn, the last one for ever.

    `refuses` is the status that a POST gets instead; a `deaf` server never answers to a cancellation; a `terse` one
    leaves out most fields. `first_id` is the first response's id.
    """

    def __init__(
        self,
        *looks: Look,
        refuses: int | None = None,
        deaf: bool = False,
        terse: bool = False,
        first_id: str = "resp_1",
    ) -> None:
        self.looks = list(looks)
        self.refuses = refuses
        self.deaf = deaf
        self.terse = terse
        self.created: list[dict] = []
        self.asked: list[str] = []
        self.asked_at: list[float] = []
        self.cancelled: list[str] = []
        self.headers: list[dict] = []
        self.port = 0
        self._ids = chain([first_id], (f"resp_{number}" for number in count(2)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def create(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.created.append(body)
        self.headers.append(dict(request.headers))
        if self.refuses is not None:
            return web.json_response({"error": {"message": "no"}}, status=self.refuses)
        status = "queued" if body.get("background") else "completed"
        return web.json_response(self._told(response(id=next(self._ids), status=status, usage=None)))

    async def look(self, request: web.Request) -> web.Response:
        self.asked.append(request.match_info["id"])
        self.asked_at.append(time.monotonic())
        self.headers.append(dict(request.headers))
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if look == DROPPED:
            request.transport.abort()
        if isinstance(look, int | tuple):
            status, headers = (look, {}) if isinstance(look, int) else look
            return web.json_response({"error": {"message": "not now"}}, status=status, headers=headers)
        ended = look if isinstance(look, dict) else response(status="in_progress", usage=None)
        return web.json_response(self._told({**ended, "id": request.match_info["id"]}))

    def _told(self, whole: dict) -> dict:
        return {name: whole[name] for name in ("id", "status", "output")} if self.terse else whole

    async def cancel(self, request: web.Request) -> web.Response:
        self.cancelled.append(request.match_info["id"])
        if self.deaf:
            await asyncio.Event().wait()
        return web.json_response(response(id=request.match_info["id"], status="cancelled", usage=None))


@asynccontextmanager
async def keeping(*looks: Look, **options):
    """A running ResponsesServer."""
    server = ResponsesServer(*looks, **options)
    app = web.Application()
    for base in ("", "/openai/v1"):  # OpenAI's paths, and Azure's
        app.router.add_post(f"{base}/responses", server.create)
        app.router.add_get(f"{base}/responses/{{id}}", server.look)
        app.router.add_post(f"{base}/responses/{{id}}/cancel", server.cancel)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()
