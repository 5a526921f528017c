"""Planted keys, a provider that repeats what it was sent in every way that providers do, and a look for what got out."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

PROMPT = "the merger of Foo and Bar closes on the third of May, and nobody else may know"
SHAPED = "sk-proj-q7Wm3xK9vT2pLr8ZbN5cHd4J"
"""A key that anybody recognises."""


class Canary:
    """A planted key of no known shape, and the sight of it."""

    def __init__(self, key: str) -> None:
        self.key = key
        letters = [base64.b64encode(b"x" * shift + key.encode()).decode()[4:-4] for shift in range(3)]
        self._signs = [
            *_windows(key, 6),
            *_windows(quote(key, safe=""), 9),
            *(w for e in letters for w in _windows(e, 10)),
        ]

    def seen_in(self, text: str) -> list[str]:
        """What of the key, plain, escaped or in base64, stands in `text`: six characters in a row are too many."""
        return [sign for sign in self._signs if sign in text]


def _windows(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(len(text) - size + 1)]


TEAM, OWN, OTHER, PASSWORD = map(
    Canary,
    (
        "q9ZkT7+wX/bGm2hRv4nPq8sYc5dJ3==", "u3Fh8LzXe6KjWq1VtB7mNc0Rg5Dy", "a2Pw7RxUo4ZsMi9GkE3vHf6Tb8Cq",
        "y5Nd1JvQc8XoLp2AsW6rKt9Zm4Ue",
    ),
)  # fmt: skip
FIRST, SECOND, UNUSED = map(
    Canary, ("c7Bq3ViKy9ExTd5OnS1wJh4Pf8Lu", "g4Xe9TmUa1RzHb6YqL8kDv2Oc7Iw", "i1Os6HgNw3QtFy8ZpC5xVj9Er2Ka")
)
ALL = (TEAM, OWN, OTHER, PASSWORD, FIRST, SECOND, UNUSED)


def error(status: int, message: str, headers: dict | None = None, **fields: object) -> web.Response:
    """An error in OpenAI's shape."""
    return web.json_response({"error": {"message": message, **fields}}, status=status, headers=headers)


def text(status: int, body: str, kind: str = "application/json") -> web.Response:
    """Any body."""
    return web.Response(status=status, text=body, content_type=kind)


def answer(key: str) -> web.Response:
    """A sound answer with the key in each of its texts."""
    call = {"id": key, "type": "function", "function": {"name": "look", "arguments": json.dumps({"key": key})}}
    message = {"role": "assistant", "content": f"Your key is {key}.", "reasoning_content": key, "tool_calls": [call]}
    body = {
        "id": key, "object": "chat.completion", "created": 1, "model": key, "system_fingerprint": key,
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
    }  # fmt: skip
    return web.json_response(body, headers={"x-request-id": key})


ECHOES: dict[str, Callable[[str], web.Response]] = {
    "whole": lambda k: error(401, f"Incorrect API key provided: {k}. You asked: {PROMPT}", code=k, type=k, param=k),
    "masked": lambda k: error(401, f"Bad key {k[:7]}*****{k[-4:]} or {k[:6]}...{k[-4:]} or {k[:9]}… or {k[:8]}"),
    "halved": lambda k: error(401, f"It begins with {k[:15]} and ends with {k[15:]}"),
    "address": lambda k: error(403, f"GET https://host/v1?key={k} or https://u:{quote(k, safe='')}@host is not yours"),
    "basic": lambda k: text(401, f"sent {_basic(k)}", "text/plain"),
    "challenge": lambda k: error(401, _basic(k), {"www-authenticate": f'Basic realm="{k}", error="{_basic(k)}"'}),
    "headers": lambda k: error(429, "slow down", dict.fromkeys(
        ("x-request-id", "retry-after", "x-ratelimit-reset-requests", "x-ratelimit-remaining-tokens", "server"), k
    )),
    "redirect": lambda k: web.Response(status=307, headers={"location": f"http://127.0.0.1:1/?api_key={k}"}),
    "page": lambda k: text(500, f"<title>{k}</title><pre>Traceback (most recent call last):\n  {k}</pre>", "text/html"),
    "deep": lambda k: text(401, f'["{k}"' + ", [" * 5_000),
    "long": lambda k: error(404, "no such model " + "x" * 1980 + " " + k),
    "details": lambda k: error(429, "quota", details=[
        {"reason": k, "metadata": {"quota_limit": k, "quota_limit_value": "x" * 150 + " " + k}, "retryDelay": k}
    ]),
    "escaped": lambda k: text(500, json.dumps({"error": {"message": json.dumps({"seen": k + '"'})}})),
    "body": lambda k: text(200, json.dumps({"error": {"message": k, "code": k}})),
    "event": lambda k: text(200, f'event: error\ndata: {{"error": {{"message": "{k}"}}}}\n\n', "text/event-stream"),
    "types": lambda k: text(200, json.dumps({"id": k, "choices": [{"message": {"content": ""}}], "usage": k, "model": 5})),
    "queued": lambda k: web.json_response({"id": k, "object": "response", "status": "queued", "output": []}),
    "nonsense": lambda k: text(200, f"{k} is your key", "text/plain"),
}  # fmt: skip
"""Ways to fail that tell the key; each leads to the next model."""


def _basic(key: str) -> str:
    return base64.b64encode(f"user:{key}".encode()).decode()


@asynccontextmanager
async def echoing() -> AsyncIterator[tuple[str, list[str]]]:
    """A provider that repeats keys; yields its address and the keys that it has heard."""
    heard: list[str] = []

    async def respond(request: web.Request) -> web.StreamResponse:
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        heard.append(key)
        if (way := request.match_info["way"]) != "slow":
            return {**ECHOES, "answer": answer, "other": lambda _: error(401, UNUSED.key)}[way](key)
        begun = web.StreamResponse(headers={"x-request-id": key})
        await begun.prepare(request)
        await asyncio.sleep(60)
        return begun

    app = web.Application()
    app.router.add_post("/{way}/v1/chat/completions", respond)
    app.router.add_post("/{way}/v1/responses", respond)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", heard
    finally:
        await runner.cleanup()


class Mount:
    """Secret files as Kubernetes mounts them: links into a folder that a rotation replaces as a whole."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._turn = 0

    def put(self, **files: str) -> None:
        """Replace all files at once; each ends with the line break that an editor leaves."""
        self._turn += 1
        folder = self.place / f"..2030_{self._turn}"
        folder.mkdir(parents=True)
        for name, value in files.items():
            (folder / name).write_text(f"{value}\n")
            if not (self.place / name).is_symlink():
                (self.place / name).symlink_to(f"..data/{name}")
        (self.place / "..new").symlink_to(folder.name)
        (self.place / "..new").rename(self.place / "..data")


def decoded(value: object) -> Iterator[str]:
    """All texts of a JSON value, those of payloads decoded too."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from decoded(inner)
            if name == "data" and isinstance(inner, str):
                yield base64.b64decode(inner).decode(errors="replace")
    elif isinstance(value, list):
        for inner in value:
            yield from decoded(inner)
    else:
        yield str(value)


def without_prompts(events: Iterable[dict]) -> list[dict]:
    """Events without the arguments that carry the prompt, its only places in a history."""
    left = json.loads(json.dumps(list(events)))
    for event in left:
        for attributes in event.values():
            if isinstance(attributes, dict) and "input" in attributes:
                del attributes["input"]["payloads"][1:]
    return left
