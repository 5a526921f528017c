"""A provider without latency: one canned chat completion, from a well-kept HTTP server, in a process of its own."""

import sys

from aiohttp import web

COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_754_300_000,
    "model": "gpt-4o-mini",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "7"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
}


async def complete(request: web.Request) -> web.Response:
    """Answer at once."""
    await request.read()
    return web.json_response(COMPLETION)


if __name__ == "__main__":
    app = web.Application()
    app.router.add_post("/v1/chat/completions", complete)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None)
