"""A provider without latency: a canned chat completion, from a well-kept HTTP server, in a process of its own.

Below `/N/v1` it answers only after N failures; the count starts again after each answer. Below `/stream/N/MS/v1` it
streams N tokens, one every MS milliseconds, each the time at which it was sent.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from typing import Final

from aiohttp import web

COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_754_300_000,
    "model": "gpt-4o-mini",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "7"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
}
LONGEST_PROMPT: Final = 2**25

_failed: Counter[str] = Counter()


async def complete(request: web.Request) -> web.Response:
    """Answer at once."""
    await request.read()
    return web.json_response(COMPLETION)


async def complete_after_failures(request: web.Request) -> web.Response:
    """Fail as often as the path says, then answer."""
    await request.read()
    failures = request.match_info["failures"]
    if _failed[failures] == int(failures):
        _failed[failures] = 0
        return web.json_response(COMPLETION)
    _failed[failures] += 1
    error = {"error": {"message": "The server had an error while processing your request.", "type": "server_error"}}
    return web.json_response(error, status=500)


async def stream(request: web.Request) -> web.StreamResponse:
    """Write tokens at an even pace."""
    await request.read()
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for _ in range(int(request.match_info["tokens"])):
        await asyncio.sleep(int(request.match_info["pause"]) / 1e3)
        await response.write(_event({"content": f"{time.time():.4f} "}, None))
    await response.write(_event({}, "stop") + b"data: [DONE]\n\n")
    return response


def _event(delta: dict[str, str], finish: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_754_300_000, "model": "gpt-4o-mini"}
    return f"data: {json.dumps({**head, 'choices': [choice]})}\n\n".encode()


def build() -> web.Application:
    """The provider."""
    app = web.Application(client_max_size=LONGEST_PROMPT)
    app.router.add_post("/v1/chat/completions", complete)
    app.router.add_post(r"/{failures:\d+}/v1/chat/completions", complete_after_failures)
    app.router.add_post(r"/stream/{tokens:\d+}/{pause:\d+}/v1/chat/completions", stream)
    return app


if __name__ == "__main__":
    web.run_app(build(), host="127.0.0.1", port=int(sys.argv[1]), access_log=None)
