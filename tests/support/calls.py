"""A provider that answers in turn, the completions that it answers with, and waits for what a call does."""

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from durable_llm.client.handle import CallHandle
from durable_llm.contract.result import CallStatus
from tests.support.scripted import ScriptedProvider
from tests.support.wire import Wire


class ServesInTurn(Wire):
    """Serves its bodies one after the other, and repeats the last one."""

    def __init__(self, *bodies: dict, hangs_first: bool = False) -> None:
        cases = [*([{"fault": "timeout"}] if hangs_first else []), *({"body": body} for body in bodies)]
        super().__init__(functools.reduce(lambda later, case: {**case, "then": later}, reversed(cases)))

    @property
    def bodies(self) -> list[dict]:
        """What was asked, as JSON."""
        return [json.loads(request.partition(b"\r\n\r\n")[2]) for request in self.requests]


@asynccontextmanager
async def in_turn(*bodies: dict, hangs_first: bool = False) -> AsyncIterator[ServesInTurn]:
    """A server of `bodies`; the first request may get none, and stays open."""
    wire = ServesInTurn(*bodies, hangs_first=hangs_first)
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        server.close()


def completion(content: str | None = None, *calls: tuple[str, str], finish: str = "stop", **message) -> dict:
    """A completion of OpenAI's with a text, and tool calls as (name, arguments)."""
    if calls:
        message["tool_calls"] = [
            {"id": f"c{index}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for index, (name, arguments) in enumerate(calls)
        ]
    return {
        "id": "x", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15},
    }  # fmt: skip


async def until(handle: CallHandle, holds: Callable[[CallStatus], object]) -> CallStatus:
    """Wait until something is true of the call's status, and return that."""
    while not holds(status := await handle.status()):
        await asyncio.sleep(0.02)
    return status


async def until_parked(handle: CallHandle) -> CallStatus:
    """Wait until the call is parked."""
    return await until(handle, lambda status: status.outcome == "parked")


async def until_waiting(handle: CallHandle) -> CallStatus:
    """Wait until the call waits on a timer."""
    return await until(handle, lambda status: status.next_attempt_at is not None)


async def until_attempted(provider: ScriptedProvider, number: int) -> None:
    """Wait until that many attempts have begun."""
    while len(provider.orders) < number:
        await asyncio.sleep(0.02)
