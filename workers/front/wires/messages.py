"""Anthropic's messages, https://docs.anthropic.com/en/api/messages and .../messages-streaming."""

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final

from durable_llm.client.openai_chat import ChatRequest
from durable_llm.client.openai_stream import WithdrawnError
from durable_llm.client.stream import CallStream
from durable_llm.client.stream_events import AttemptWithdrawn, Done, TextDelta
from durable_llm.contract.result import LLMResult, ToolCall

from .wire import Problem, named_event

_PREFIX: Final = "msg_"

_STOP_REASONS: Final = {
    "stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal",
}  # fmt: skip
"""Why an answer ends, by the finish reason of a chat completion."""

_ERRORS: Final = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    404: "not_found_error", 409: "invalid_request_error", 413: "request_too_large", 429: "rate_limit_error",
    503: "overloaded_error", 504: "timeout_error",
}  # fmt: skip
"""Types of errors by status, https://docs.anthropic.com/en/api/errors."""

Block = dict[str, Any]


def anthropic_error(problem: Problem) -> dict[str, Any]:
    """The body of an error, in Anthropic's shape."""
    call_id = {"request_id": problem.call_id} if problem.call_id else {}
    described = {"type": _ERRORS.get(problem.status, "api_error"), "message": problem.message}
    return {"type": "error", "error": described, **call_id}


class MessagesWire:
    """A message.

    Args:
        asked: What is asked.
        call_id: The call.
    """

    ping: Final = b'event: ping\ndata: {"type": "ping"}\n\n'

    def __init__(self, asked: ChatRequest, call_id: str) -> None:
        self._asked = asked
        self._call_id = call_id

    def body(self, result: LLMResult) -> dict[str, Any]:
        """See Wire."""
        text = [{"type": "text", "text": result.text}] if result.text else []
        blocks = [*_thinking(result), *text, *map(_tool_use, result.tool_calls)]
        return self._message(result.model or self._asked.model, blocks, _stop_reason(result), _usage(result))

    async def live(self, events: CallStream) -> AsyncIterator[bytes]:
        """See Wire. Thinking is signed when the answer is there, so it comes after the text."""
        begun = False
        yield self._begin(self._asked.model)
        async for each in events:
            match each:
                case TextDelta():
                    if not begun:
                        yield _block_begins(0, {"type": "text", "text": ""})
                    begun = True
                    yield _delta(0, {"type": "text_delta", "text": each.text})
                case AttemptWithdrawn() if begun:
                    raise WithdrawnError(each)
                case Done():
                    if begun:
                        yield _block_ends(0)
                    for event in self._end(each.result, [*_thinking(each.result)], first=int(begun)):
                        yield event

    def whole(self, result: LLMResult) -> Iterator[bytes]:
        """See Wire."""
        yield self._begin(result.model or self._asked.model)
        text = [{"type": "text", "text": result.text}] if result.text else []
        yield from self._end(result, [*_thinking(result), *text], first=0)

    def failed(self, problem: Problem) -> bytes:
        """See Wire."""
        return named_event(anthropic_error(problem))

    def _begin(self, model: str) -> bytes:
        usage = {"input_tokens": 0, "output_tokens": 0}
        return named_event({"type": "message_start", "message": self._message(model, [], None, usage)})

    def _end(self, result: LLMResult, blocks: Sequence[Block], *, first: int) -> Iterator[bytes]:
        """Blocks, the use of tools, and why the message ends."""
        for index, block in enumerate([*blocks, *map(_tool_use, result.tool_calls)], first):
            empty, deltas = _in_pieces(block)
            yield _block_begins(index, empty)
            yield from (_delta(index, delta) for delta in deltas)
            yield _block_ends(index)
        ending = {"stop_reason": _stop_reason(result), "stop_sequence": None}
        yield named_event({"type": "message_delta", "delta": ending, "usage": _usage(result)})
        yield named_event({"type": "message_stop"})

    def _message(self, model: str, blocks: Sequence[Block], stop: str | None, usage: dict[str, int]) -> dict[str, Any]:
        return {
            "id": _PREFIX + self._call_id, "type": "message", "role": "assistant", "model": model,
            "content": list(blocks), "stop_reason": stop, "stop_sequence": None, "usage": usage,
        }  # fmt: skip


def _thinking(result: LLMResult) -> Iterator[Block]:
    """The reasoning that its provider has signed. Other reasoning cannot be sent back as a block."""
    yield from (dict(block) for block in result.choices[0].thinking_blocks)


def _tool_use(call: ToolCall) -> Block:
    return {"type": "tool_use", "id": call.id, "name": call.function.name, "input": call.function.parsed_arguments()}


def _in_pieces(block: Block) -> tuple[Block, list[Block]]:
    """A block as it begins, and what is added to it."""
    match block:
        case {"type": "text", "text": text}:
            return {"type": "text", "text": ""}, [{"type": "text_delta", "text": text}]
        case {"type": "tool_use", "input": given}:
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": json.dumps(given)}]
        case {"type": "thinking", **rest}:
            thought = {"type": "thinking_delta", "thinking": rest.get("thinking", "")}
            signature = {"type": "signature_delta", "signature": rest.get("signature", "")}
            return {"type": "thinking", "thinking": "", "signature": ""}, [thought, signature]
    return block, []


def _block_begins(index: int, block: Block) -> bytes:
    return named_event({"type": "content_block_start", "index": index, "content_block": block})


def _delta(index: int, delta: Block) -> bytes:
    return named_event({"type": "content_block_delta", "index": index, "delta": delta})


def _block_ends(index: int) -> bytes:
    return named_event({"type": "content_block_stop", "index": index})


def _stop_reason(result: LLMResult) -> str:
    return "tool_use" if result.tool_calls else _STOP_REASONS.get(result.finish_reason or "", "end_turn")


def _usage(result: LLMResult) -> dict[str, int]:
    """Tokens. Anthropic counts those from and for the cache apart from the others."""
    used = result.usage
    if used is None:
        return {"input_tokens": 0, "output_tokens": 0}
    cached = used.cache_read_tokens + used.cache_creation_tokens
    return {
        "input_tokens": max(used.prompt_tokens - cached, 0),
        "output_tokens": used.completion_tokens,
        "cache_read_input_tokens": used.cache_read_tokens,
        "cache_creation_input_tokens": used.cache_creation_tokens,
    }
