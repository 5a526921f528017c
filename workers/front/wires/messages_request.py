"""A request of Anthropic's Messages API as a chat, https://docs.anthropic.com/en/api/messages."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from durable_llm.client.new_call import CallOptions
from durable_llm.client.openai_chat import ChatRequest
from durable_llm.errors import InvalidRequestError

from .checks import fields_of, list_of, object_of, text_of

_PARAMETERS: Final[Mapping[str, str]] = {
    "max_tokens": "max_tokens", "output_config": "output_config", "service_tier": "service_tier",
    "stop_sequences": "stop", "temperature": "temperature", "thinking": "thinking", "top_k": "top_k", "top_p": "top_p",
}  # fmt: skip
"""Parameters by their names here, with their names in a chat completion."""

_OWN: Final = {"messages", "metadata", "model", "stream", "system", "tool_choice", "tools"}


def read_messages_request(body: object) -> ChatRequest:
    """What `body` asks. The parts that a chat has too are checked when the call is made.

    Raises:
        InvalidRequestError: it is no request for a message, or asks for what only Anthropic can do; names the field.
    """
    given = fields_of(body, {*_PARAMETERS, *_OWN})
    if "max_tokens" not in given:
        raise InvalidRequestError("body: no 'max_tokens'")
    system = given.get("system")
    messages = [{"role": "system", "content": _parts("system", system)}] if system else []
    for place, message in enumerate(list_of("messages", given.get("messages", []))):
        messages += _messages(f"messages[{place}]", message)
    parameters = {_PARAMETERS[name]: value for name, value in given.items() if name in _PARAMETERS}
    user = object_of("metadata", given.get("metadata", {})).get("user_id")
    parameters |= {"user": user} if user else {}
    options: CallOptions = {}
    if "tools" in given:
        options["tools"] = [_tool(place, tool) for place, tool in enumerate(list_of("tools", given["tools"]))]
    if "tool_choice" in given:
        choice = object_of("tool_choice", given["tool_choice"])
        options["tool_choice"] = _tool_choice(choice)
        parameters |= {"parallel_tool_calls": False} if choice.get("disable_parallel_tool_use") else {}
    model = text_of("model", given.get("model", ""))
    return ChatRequest(model, messages, options, parameters, bool(given.get("stream")), wants_usage=True)


def _tool(place: int, tool: Any) -> dict[str, Any]:
    match tool:
        case {"name": str(name), "input_schema": schema, **rest} if rest.pop("type", "custom") == "custom":
            described = {key: rest.pop(key) for key in ("description", "strict") if key in rest}
            cached = {"cache_control": mark} if (mark := rest.pop("cache_control", None)) else {}
            if not rest:
                return {
                    "type": "function", "function": {"name": name, **described, "parameters": schema}, **cached,
                }  # fmt: skip
            raise InvalidRequestError(f"tools[{place}]: {min(map(str, rest))!r} is not supported here")
        case {"type": str(kind)}:
            raise InvalidRequestError(
                f"tools[{place}]: {kind[:60]!r} runs at Anthropic; only your own tools are supported"
            )
    raise InvalidRequestError(f"tools[{place}]: expected {{'name': ..., 'input_schema': ...}}")


def _tool_choice(choice: Mapping[str, Any]) -> Any:
    match choice:
        case {"type": "auto" | "none" as kind}:
            return kind
        case {"type": "any"}:
            return "required"
        case {"type": "tool", "name": name}:
            return {"type": "function", "function": {"name": name}}
    raise InvalidRequestError("tool_choice: expected a 'type' of auto, any, none, or tool with a 'name'")


def _messages(place: str, message: object) -> Iterator[dict[str, Any]]:
    """One message as one or more: results of tools are messages of their own, before what else the user says."""
    match message:
        case {"role": "user" | "assistant" | "system" as role, "content": str(text)}:
            yield {"role": role, "content": text}
        case {"role": "user" | "system" as role, "content": list(blocks)}:
            results = [block for block in blocks if _kind(block) == "tool_result"]
            yield from (_tool_result(place, block) for block in results)
            if others := [block for block in blocks if _kind(block) != "tool_result"]:
                yield {"role": role, "content": _parts(place, others)}
        case {"role": "assistant", "content": list(blocks)}:
            yield _assistant(place, blocks)
        case _:
            raise InvalidRequestError(f"{place}: expected {{'role': 'user' or 'assistant', 'content': ...}}")


def _kind(block: object) -> object:
    return block.get("type") if isinstance(block, Mapping) else None


def _assistant(place: str, blocks: list[Any]) -> dict[str, Any]:
    calls = [_tool_call(place, block) for block in blocks if _kind(block) == "tool_use"]
    thinking = [dict(block) for block in blocks if _kind(block) in ("thinking", "redacted_thinking")]
    text = [block for block in blocks if _kind(block) not in ("tool_use", "thinking", "redacted_thinking")]
    return {
        "role": "assistant",
        "content": _parts(place, text) if text else None,
        **({"tool_calls": calls} if calls else {}),
        **({"thinking_blocks": thinking} if thinking else {}),
    }


def _tool_call(place: str, block: Mapping[str, Any]) -> dict[str, Any]:
    match block:
        case {"id": str(call_id), "name": str(name), "input": given}:
            return {"id": call_id, "type": "function", "function": {"name": name, "arguments": json.dumps(given)}}
    raise InvalidRequestError(f"{place}: expected a tool_use with id, name and input")


def _tool_result(place: str, block: Mapping[str, Any]) -> dict[str, Any]:
    """A tool's result. A chat has no word for its failure, so the text says it."""
    call_id = text_of(f"{place}: 'tool_use_id'", block.get("tool_use_id"))
    content = _parts(place, block.get("content") or "")
    if block.get("is_error"):
        content = f"Error: {content}" if isinstance(content, str) else [{"type": "text", "text": "Error:"}, *content]
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def _parts(place: str, content: object) -> str | list[dict[str, Any]]:
    """A text, or blocks as the parts of a message. Plain blocks of text become one text."""
    if isinstance(content, str):
        return content
    parts = [_part(f"{place}.content[{index}]", block) for index, block in enumerate(list_of(place, content))]
    if len(parts) == 1 and parts[0].keys() == {"type", "text"}:
        return str(parts[0]["text"])
    return parts


def _part(place: str, block: Any) -> dict[str, Any]:
    cached = (
        {"cache_control": block["cache_control"]} if isinstance(block, Mapping) and block.get("cache_control") else {}
    )
    match block:
        case {"type": "text", "text": str(text)}:
            return {"type": "text", "text": text, **cached}
        case {"type": "image", "source": source}:
            return {"type": "image_url", "image_url": {"url": _url(place, source)}, **cached}
        case {"type": "document", "source": {"type": "text", "data": str(text)}}:
            return {"type": "text", "text": text, **cached}
        case {"type": "document", "source": source}:
            return {"type": "file", "file": {"file_data": _url(place, source), "filename": "document"}, **cached}
        case {"type": str(kind)}:
            raise InvalidRequestError(f"{place}: {kind[:60]!r} is not supported here")
    raise InvalidRequestError(f"{place}: expected a block like {{'type': 'text', 'text': '...'}}")


def _url(place: str, source: object) -> str:
    match source:
        case {"type": "base64", "media_type": str(kind), "data": str(data)}:
            return f"data:{kind};base64,{data}"
        case {"type": "url", "url": str(url)}:
            return url
    raise InvalidRequestError(f"{place}: expected a source of type base64 or url")
