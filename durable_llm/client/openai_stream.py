"""OpenAI's streamed chat completions: a call's answer as chunks, and chunks as server-sent events."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from durable_llm.client.openai_chat import ChatRequest, chat_chunk, completion_of
from durable_llm.client.stream import CallStream
from durable_llm.client.stream_events import AttemptWithdrawn, Done, ReasoningDelta, TextDelta
from durable_llm.contract.result import LLMResult
from durable_llm.errors import DurableLLMError

LAST_EVENT: Final = b"data: [DONE]\n\n"
"""What ends a stream."""

Chunk = dict[str, Any]


class WithdrawnError(DurableLLMError):
    """Text that was shown is not the answer. The call goes on.

    Args:
        event: What the call's stream says.
    """

    def __init__(self, event: AttemptWithdrawn) -> None:
        super().__init__(f"the text so far is withdrawn ({event.reason}); the call goes on, ask for it again")


def event(chunk: Chunk) -> bytes:
    """A chunk as a server-sent event."""
    return f"data: {json.dumps(chunk)}\n\n".encode()


async def live_chunks(events: CallStream, asked: ChatRequest, completion_id: str) -> AsyncIterator[Chunk]:
    """The chunks of an answer while it is written.

    OpenAI's wire cannot withdraw text. So if an attempt fails whose text was shown, the stream ends with an error. The
    call goes on.

    Raises:
        WithdrawnError: such an attempt has failed.
        DurableLLMError: how the call ended.
    """
    begun = {"id": completion_id, "created": 0, "model": asked.model}
    shown = False
    async for each in events:
        match each:
            case TextDelta():
                shown = True
                yield chat_chunk(begun, {"role": "assistant", "content": each.text})
            case ReasoningDelta():
                yield chat_chunk(begun, {"role": "assistant", "reasoning_content": each.text})
            case AttemptWithdrawn() if shown:
                raise WithdrawnError(each)
            case Done():
                for chunk in _last_chunks(each.result, asked, completion_id):
                    yield chunk


def whole_chunks(result: LLMResult, asked: ChatRequest, completion_id: str) -> Iterator[Chunk]:
    """The chunks of an answer that is there, with each choice's text in one piece."""
    completion = completion_of(result, completion_id)
    for choice in completion["choices"]:
        delta = {"role": "assistant", "content": choice["message"]["content"]}
        yield chat_chunk(completion, delta, index=choice["index"])
    yield from _last_chunks(result, asked, completion_id)


def _last_chunks(result: LLMResult, asked: ChatRequest, completion_id: str) -> Iterator[Chunk]:
    """Tool calls, why each choice ends, and the usage where it is wanted."""
    completion = completion_of(result, completion_id)
    for choice in completion["choices"]:
        calls = [{"index": place, **call} for place, call in enumerate(choice["message"].get("tool_calls", ()))]
        delta = {"tool_calls": calls} if calls else {}
        yield chat_chunk(completion, delta, index=choice["index"], finish_reason=choice["finish_reason"])
    if asked.wants_usage:
        yield {**chat_chunk(completion, {}), "choices": [], "usage": completion["usage"]}
