"""OpenAI's Responses, https://platform.openai.com/docs/api-reference/responses.

The events of a stream have numbers that come from what they tell, not from how often somebody has looked: a piece of
text is numbered by the attempt that wrote it and by how many characters come before its end. So any front can resume a
stream after a number that another one has sent.
"""

import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from durable_llm.client.asked import Asked
from durable_llm.client.openai_stream import WithdrawnError
from durable_llm.client.stream import CallStream, Position
from durable_llm.client.stream_events import AttemptWithdrawn, Done, TextDelta
from durable_llm.contract.ledger import Usage
from durable_llm.contract.result import Choice, LLMResult

from .responses_request import LABEL, ResponseRequest
from .wire import Problem, named_event

PREFIX: Final = "resp_"
"""What clients know a response's id by; the rest is the call's id."""

_BEFORE_TEXT: Final = 3
"""The number of the last event before the text."""

_ATTEMPT: Final = 1 << 32
"""How far the numbers of one attempt's text lie from those of the next: more than any text has characters."""

Status = Literal["completed", "incomplete", "in_progress", "failed", "cancelled"]
Event = dict[str, Any]


@dataclass(frozen=True)
class Known:
    """What is known of a response before it is answered.

    Attributes:
        call_id: The call.
        created_at: When it was made, in seconds since 1970.
        told: What LABEL tells.
        instructions: Of this turn.
        metadata: The client's own.
        tools: In the shape of chat completions.
        tool_choice: As above.
        response_format: As above.
    """

    call_id: str
    created_at: int
    told: Mapping[str, Any]
    instructions: str | None
    metadata: Mapping[str, str]
    tools: Sequence[Mapping[str, Any]]
    tool_choice: Any
    response_format: Any


def known_of_request(asked: ResponseRequest, call_id: str) -> Known:
    """What is known of a response that is asked for now."""
    options, told = asked.chat.options, json.loads(asked.label)
    messages: Any = asked.chat.messages
    return Known(
        call_id, int(time.time()), told, messages[0]["content"] if told["instructions"] else None,
        _own(options.get("metadata") or {}), options.get("tools") or (), options.get("tool_choice"),
        options.get("response_format"),
    )  # fmt: skip


def known_of_call(asked: Asked, call_id: str) -> Known | None:
    """What is known of a response that was asked for before; None if the call is none."""
    if LABEL not in asked.metadata:
        return None
    told, prompt = json.loads(asked.metadata[LABEL]), asked.prompt
    return Known(
        call_id, int(asked.started_at.timestamp()), told,
        prompt.messages[0]["content"] if told["instructions"] else None, _own(asked.metadata), prompt.tools or (),
        prompt.tool_choice, prompt.response_format,
    )  # fmt: skip


def _own(metadata: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in metadata.items() if name != LABEL}


def response_of(
    known: Known, status: Status, result: LLMResult | None = None, error: Problem | None = None
) -> dict[str, Any]:
    """A response as its API shows it.

    Args:
        known: What is known before it is answered.
        status: How far it is. An answer that was cut short is incomplete, whatever is given.
        result: The answer.
        error: Why it has none.
    """
    cut = _CUT.get(result.finish_reason or "") if result else None
    told = known.told
    return {
        "id": PREFIX + known.call_id,
        "object": "response",
        "created_at": known.created_at,
        "status": "incomplete" if cut else status,
        "background": told.get("background", False),
        "error": {"code": "server_error", "message": error.message} if error else None,
        "incomplete_details": {"reason": cut} if cut else None,
        "instructions": known.instructions,
        "max_output_tokens": told.get("max_output_tokens"),
        "metadata": dict(known.metadata),
        "model": (result and result.model) or told.get("model", ""),
        "output": _output(known, result) if result else [],
        "parallel_tool_calls": told.get("parallel_tool_calls", True),
        "previous_response_id": told.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None, **told.get("reasoning", {})},
        "service_tier": told.get("service_tier"),
        "temperature": told.get("temperature"),
        "text": {"format": _format(known.response_format)},
        "tool_choice": _flat(known.tool_choice or "auto"),
        "tools": [{"strict": None, **_flat(tool)} for tool in known.tools],
        "top_p": told.get("top_p"),
        "truncation": "disabled",
        "usage": _usage(result.usage) if result and result.usage else None,
        "user": told.get("user"),
    }


_CUT: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Why an answer ends too early, by the finish reason of a chat completion."""


def _flat(written: Any) -> Any:
    """A tool or the choice of one, with its function's fields one level higher than in a chat completion."""
    if not isinstance(written, Mapping):
        return written
    return {"type": "function", **written["function"]}


def _format(written: Mapping[str, Any] | None) -> dict[str, Any]:
    if written is None:
        return {"type": "text"}
    return {"type": written["type"], **written.get("json_schema", {})}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cache_read_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _output(known: Known, result: LLMResult) -> list[dict[str, Any]]:
    """The answer's text and its function calls. Reasoning is kept for the next turn, and not shown."""
    message = [_message(known, result.text or "")] if _has_message(result) else []
    return [*message, *_calls(known, result.choices[0])]


def _has_message(result: LLMResult) -> bool:
    return bool(result.text) or not result.tool_calls


def _attempt_of(result: LLMResult) -> int:
    """The number of the attempt that gave the answer."""
    return result.attempts[-1].number if result.attempts else 1


def _message(known: Known, text: str | None) -> dict[str, Any]:
    return {
        "id": f"msg_{known.call_id}", "type": "message", "role": "assistant",
        "status": "in_progress" if text is None else "completed", "content": [] if text is None else [_text(text)],
    }  # fmt: skip


def _text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _calls(known: Known, choice: Choice) -> list[dict[str, Any]]:
    return [
        {"id": f"fc_{place}_{known.call_id}", "type": "function_call", "status": "completed", "call_id": call.id,
         "name": call.function.name, "arguments": call.function.arguments}
        for place, call in enumerate(choice.tool_calls)
    ]  # fmt: skip


class ResponsesWire:
    """A response.

    Args:
        known: What is known before it is answered.
        after: Events up to this number are left out.
    """

    def __init__(self, known: Known, after: int = -1) -> None:
        self._known = known
        self._after = after
        self._last = after

    @property
    def ping(self) -> bytes:
        """A comment: the API has no event for it."""
        return b": ping\n\n"

    @property
    def position(self) -> Position | None:
        """What the client has of the text. None: nothing."""
        attempt, characters = divmod(self._after - _BEFORE_TEXT, _ATTEMPT)
        return (attempt + 1, characters) if self._after > _BEFORE_TEXT else None

    def body(self, result: LLMResult) -> dict[str, Any]:
        """See Wire."""
        return response_of(self._known, "completed", result)

    async def live(self, events: CallStream) -> AsyncIterator[bytes]:
        """See Wire."""
        for event in self._begin():
            yield event
        begun = self.position is not None
        async for each in events:
            match each:
                case TextDelta():
                    for event in self._piece(each.attempt, each.offset, each.text, first=not begun):
                        yield event
                    begun = True
                case AttemptWithdrawn() if begun:
                    raise WithdrawnError(each)
                case Done():
                    if not begun and _has_message(each.result):
                        for event in self._message_begins():
                            yield event
                    for event in self._end(each.result):
                        yield event

    def whole(self, result: LLMResult) -> Iterator[bytes]:
        """See Wire."""
        yield from self._begin()
        if _has_message(result):
            yield from self._piece(_attempt_of(result), 0, result.text or "", first=True)
        yield from self._end(result)

    def failed(self, problem: Problem) -> bytes:
        """See Wire."""
        number = max(self._last + 1, 0)
        if problem.ended:
            status: Status = "cancelled" if problem.kind == "CallCancelledError" else "failed"
            response = response_of(self._known, status, error=problem)
            return named_event({"type": "response.failed", "sequence_number": number, "response": response})
        return named_event({
            "type": "error", "sequence_number": number, "code": problem.kind, "message": problem.message, "param": None,
        })  # fmt: skip

    def _numbered(self, first: int, events: Iterator[Event]) -> Iterator[bytes]:
        """The events with their numbers, without those that the client has."""
        for number, event in enumerate(events, first):
            if number > self._after:
                self._last = number
                yield named_event({**event, "sequence_number": number})

    def _begin(self) -> Iterator[bytes]:
        response = response_of(self._known, "in_progress")
        kinds = ("response.created", "response.in_progress")
        yield from self._numbered(0, ({"type": kind, "response": response} for kind in kinds))

    def _message_begins(self) -> Iterator[bytes]:
        begun = {"type": "response.output_item.added", "output_index": 0, "item": _message(self._known, None)}
        part = {"type": "response.content_part.added", **self._place(), "part": _text("")}
        yield from self._numbered(_BEFORE_TEXT - 1, iter([begun, part]))

    def _piece(self, attempt: int, offset: int, text: str, *, first: bool) -> Iterator[bytes]:
        """A piece of text; before the first one, that a message begins."""
        if first:
            yield from self._message_begins()
        if text:
            delta = {"type": "response.output_text.delta", **self._place(), "delta": text, "logprobs": []}
            number = (attempt - 1) * _ATTEMPT + _BEFORE_TEXT + offset + len(text)
            yield from self._numbered(number, iter([delta]))

    def _end(self, result: LLMResult) -> Iterator[bytes]:
        """What follows the text: the end of the message, function calls, and the whole response."""
        first = (_attempt_of(result) - 1) * _ATTEMPT + _BEFORE_TEXT + len(result.text or "") + 1
        yield from self._numbered(first, self._last_events(result))

    def _last_events(self, result: LLMResult) -> Iterator[Event]:
        text, has_message = result.text or "", _has_message(result)
        if has_message:
            yield {"type": "response.output_text.done", **self._place(), "text": text, "logprobs": []}
            yield {"type": "response.content_part.done", **self._place(), "part": _text(text)}
            yield {"type": "response.output_item.done", "output_index": 0, "item": _message(self._known, text)}
        for index, item in enumerate(_calls(self._known, result.choices[0]), int(has_message)):
            place = {"output_index": index, "item_id": item["id"]}
            begun = {**item, "status": "in_progress", "arguments": ""}
            yield {"type": "response.output_item.added", "output_index": index, "item": begun}
            yield {"type": "response.function_call_arguments.delta", **place, "delta": item["arguments"]}
            yield {
                "type": "response.function_call_arguments.done", **place, "name": item["name"],
                "arguments": item["arguments"],
            }  # fmt: skip
            yield {"type": "response.output_item.done", "output_index": index, "item": item}
        response = response_of(self._known, "completed", result)
        yield {"type": f"response.{response['status']}", "response": response}

    def _place(self) -> dict[str, Any]:
        return {"item_id": f"msg_{self._known.call_id}", "output_index": 0, "content_index": 0}
