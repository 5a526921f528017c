"""A request of OpenAI's Responses API as a chat, https://platform.openai.com/docs/api-reference/responses/create.

Only what every model can do is taken: text, images and files, functions, JSON Schemas. OpenAI's own tools, reasoning
that only OpenAI can read, and references to items are refused by name.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from durable_llm.client.new_call import CallOptions
from durable_llm.client.openai_chat import ChatRequest
from durable_llm.errors import InvalidRequestError

from .checks import fields_of, list_of, object_of, text_of

LABEL: Final = "durable_llm.response"
"""The label of a call that is a response: what later reads of it repeat, and what its prompt does not tell."""

_PARAMETERS: Final[Mapping[str, str]] = {
    "max_output_tokens": "max_completion_tokens",
    **{
        name: name
        for name in (
            "parallel_tool_calls", "prompt_cache_key", "safety_identifier", "service_tier", "temperature", "top_p",
            "user",
        )
    },
}  # fmt: skip
"""Parameters by their names here, with their names in a chat completion."""

_OWN: Final = {
    "background", "include", "input", "instructions", "metadata", "model", "previous_response_id", "reasoning", "store",
    "stream", "stream_options", "text", "tool_choice", "tools", "truncation",
}  # fmt: skip

_INCLUDED_ANYWAY: Final = "reasoning.encrypted_content"
"""Clients ask for it always. It is nowhere in these answers, so nothing is left out."""


@dataclass(frozen=True)
class ResponseRequest:
    """What a body asks.

    Attributes:
        chat: The same as a chat. Of a conversation it has the last turn.
        previous: Id of the response that it follows. None: it begins a conversation.
        background: Whether it is answered at once, before the model has answered.
        kept: Whether the response can be fetched later.
        label: The text of LABEL.
    """

    chat: ChatRequest
    previous: str | None
    background: bool
    kept: bool
    label: str


def read_response_request(body: object) -> ResponseRequest:
    """What `body` asks. The parts that a chat has too are checked when the call is made.

    Raises:
        InvalidRequestError: it is no request for a response, or asks for what only OpenAI can do; names the field.
    """
    given = fields_of(body, {*_PARAMETERS, *_OWN})
    _check_fixed(given)
    instructions = [{"role": "system", "content": given["instructions"]}] if given.get("instructions") else []
    text = object_of("text", given.get("text", {}))
    options: CallOptions = {"metadata": given.get("metadata", {})}
    if "tools" in given:
        options["tools"] = [_tool(place, tool) for place, tool in enumerate(list_of("tools", given["tools"]))]
    if "tool_choice" in given:
        options["tool_choice"] = _tool_choice(given["tool_choice"])
    if "format" in text:
        options["response_format"] = _format(object_of("text.format", text["format"]))
    parameters = {_PARAMETERS[name]: value for name, value in given.items() if name in _PARAMETERS}
    parameters |= {"verbosity": text["verbosity"]} if text.get("verbosity") else {}
    parameters |= _effort(object_of("reasoning", given.get("reasoning", {})))
    label = {
        "instructions": bool(instructions),
        **{name: given[name] for name in (*_PARAMETERS, "background", "model", "previous_response_id", "reasoning")
           if name in given},
    }  # fmt: skip
    label_text = json.dumps(label, separators=(",", ":"))
    options["metadata"] = {**object_of("metadata", given.get("metadata", {})), LABEL: label_text}
    chat = ChatRequest(
        text_of("model", given.get("model", "")), [*instructions, *_messages(given.get("input", []))], options,
        parameters, bool(given.get("stream")), wants_usage=True,
    )  # fmt: skip
    previous = given.get("previous_response_id")
    return ResponseRequest(
        chat, previous and text_of("previous_response_id", previous), bool(given.get("background")),
        bool(given.get("store", True)), label_text,
    )  # fmt: skip


def _check_fixed(given: Mapping[str, Any]) -> None:
    """Refuse values that are not supported of fields that are."""
    if given.get("truncation", "disabled") != "disabled":
        raise InvalidRequestError("body: 'truncation' is only 'disabled'; a chain's next model may take longer prompts")
    if others := [each for each in list_of("include", given.get("include", [])) if each != _INCLUDED_ANYWAY]:
        raise InvalidRequestError(f"body: 'include' of {str(others[0])[:60]!r} is not supported here")
    if given.get("background") and not given.get("store", True):
        raise InvalidRequestError("body: 'background' needs 'store', or nobody could fetch the answer")


def _effort(reasoning: Mapping[str, Any]) -> dict[str, Any]:
    if unknown := sorted(reasoning.keys() - {"effort", "summary", "generate_summary"}):
        raise InvalidRequestError(f"reasoning: {unknown[0]!r} is not supported here")
    return {"reasoning_effort": reasoning["effort"]} if reasoning.get("effort") else {}


def _tool(place: int, tool: Any) -> dict[str, Any]:
    match tool:
        case {"type": "function", "name": str(), **rest}:
            function = {name: value for name, value in {**rest, "name": tool["name"]}.items() if value is not None}
            return {"type": "function", "function": function}
        case {"type": str(kind)}:
            raise InvalidRequestError(
                f"tools[{place}]: {kind[:60]!r} runs at OpenAI; only functions are supported here"
            )
    raise InvalidRequestError(f"tools[{place}]: expected {{'type': 'function', 'name': ..., 'parameters': ...}}")


def _tool_choice(choice: object) -> Any:
    match choice:
        case {"type": "function", "name": name}:
            return {"type": "function", "function": {"name": name}}
        case {"type": str(kind)}:
            raise InvalidRequestError(f"tool_choice: {kind[:60]!r} is not supported here; name a function")
    return choice


def _format(written: Mapping[str, Any]) -> dict[str, Any] | None:
    """OpenAI's format of chat completions, which has the same fields one level deeper."""
    match written:
        case {"type": "text"}:
            return None
        case {"type": "json_schema", **inner}:
            return {"type": "json_schema", "json_schema": {k: v for k, v in inner.items() if v is not None}}
    return dict(written)


def _messages(given: object) -> list[dict[str, Any]]:
    """The items of an input as messages. Calls of one turn are one message."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    messages: list[dict[str, Any]] = []
    for place, item in enumerate(list_of("input", given)):
        message = _message(f"input[{place}]", item)
        last = messages[-1] if messages else {}
        if message.get("tool_calls") and last.get("role") == "assistant":
            last["tool_calls"] = [*last.get("tool_calls", ()), *message["tool_calls"]]
        else:
            messages.append(message)
    return messages


def _message(place: str, item: Any) -> dict[str, Any]:
    match item:
        case {"type": "function_call", "call_id": str(call_id), "name": str(name), "arguments": str(arguments)}:
            function = {"name": name, "arguments": arguments}
            call = {"id": call_id, "type": "function", "function": function}
            return {"role": "assistant", "content": None, "tool_calls": [call]}
        case {"type": "function_call_output", "call_id": str(call_id), "output": output}:
            return {"role": "tool", "tool_call_id": call_id, "content": _content(place, output)}
        case {"role": str(role), "content": content} if item.get("type", "message") == "message":
            return {"role": role, "content": _content(place, content)}
        case {"type": str(kind)}:
            raise InvalidRequestError(
                f"{place}: {kind[:60]!r} is not supported here; messages, function_call and function_call_output are"
            )
    raise InvalidRequestError(f"{place}: expected an item like {{'role': 'user', 'content': '...'}}")


def _content(place: str, content: object) -> str | list[dict[str, Any]]:
    """A text, or the parts of a message. Parts that are all text become one."""
    if isinstance(content, str):
        return content
    parts = [_part(f"{place}.content[{index}]", part) for index, part in enumerate(list_of(place, content))]
    if parts and all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


def _part(place: str, part: Any) -> dict[str, Any]:
    match part:
        case {"type": "input_text" | "output_text" | "text", "text": str(text)}:
            return {"type": "text", "text": text}
        case {"type": "refusal", "refusal": str(text)}:
            return {"type": "text", "text": text}
        case {"type": "input_image", "image_url": str(url)}:
            detail = {"detail": part["detail"]} if part.get("detail") else {}
            return {"type": "image_url", "image_url": {"url": url, **detail}}
        case {"type": "input_file", "file_data": str(data)}:
            return {"type": "file", "file": {"file_data": data, "filename": part.get("filename") or "file"}}
        case {"type": str(kind)}:
            raise InvalidRequestError(f"{place}: {kind[:60]!r} in this form is not supported here")
    raise InvalidRequestError(f"{place}: expected a part like {{'type': 'input_text', 'text': '...'}}")


def next_turn(
    messages: Iterable[Mapping[str, Any]], answer: Mapping[str, Any], asked: ChatRequest, *, instructed: bool
) -> list[Mapping[str, Any]]:
    """The messages of a conversation's next turn. Instructions of the turn before do not carry over.

    Args:
        messages: Of the turn before.
        answer: What the model has answered them.
        asked: The next turn.
        instructed: Whether the first message of the turn before is its instructions.
    """
    before = list(messages)[1:] if instructed else list(messages)
    own: list[Any] = list(asked.messages)
    instructions = own[:1] if json.loads((asked.options.get("metadata") or {})[LABEL])["instructions"] else []
    return [*instructions, *before, answer, *own[len(instructions) :]]
