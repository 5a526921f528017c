"""Convert a chat request into one for OpenAI's Responses API.

litellm's own conversion loses too much: it silently drops parameters without a counterpart, it loses the system prompt
when a conversation continues from a stored response, and it replaces the call ids of some servers. So the request is
built here, and litellm only sends it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from durable_llm.contract.facts import LocalFault

from ..faults import LocalFaultError
from ..litellm_setup import RESPONSES_PARAMETERS
from .messages import for_responses
from .provider_request import ProviderRequest

_PASSED_ON: Final = frozenset({*RESPONSES_PARAMETERS, "input", "api_base", "api_key", "api_version", "extra_headers"})
_CONVERTED: Final = frozenset({
    "max_tokens", "max_completion_tokens", "response_format", "verbosity", "reasoning_effort", "tools", "tool_choice",
    "logprobs", "n", "stream_options",
})  # fmt: skip
_SYSTEM: Final = ("system", "developer")
_LOGPROBS: Final = "message.output_text.logprobs"
_CHAT_ID: Final = "chatcmpl"
_JSON: Final = "json"

Item = dict[str, Any]


class Conversation(NamedTuple):
    """A conversation in the format of the Responses API."""

    input: list[Item]
    instructions: str | None = None
    """The system prompt. It is sent each time, because a stored response does not keep it."""
    previous_response_id: str | None = None


def to_responses(request: ProviderRequest, *, all_messages: bool = False) -> ProviderRequest:
    """The same request for `litellm.aresponses`.

    A parameter without a counterpart is sent unchanged. The provider refuses it, and that is better than an answer
    without it.

    Args:
        request: The request for `litellm.acompletion`.
        all_messages: Whether to send every message instead of using stored responses.

    Raises:
        LocalFaultError: a message has no counterpart.
    """
    given = {name: value for name, value in request.parameters.items() if value is not None}
    body = dict(given.pop("extra_body", {}))
    parameters = {"store": True, **_parameters(given)}
    continues = not all_messages and body.get("store", parameters["store"])
    conversation = to_conversation(for_responses(request.messages), request.provider if continues else None)
    instructions = [text for text in (parameters.pop("instructions", None), conversation.instructions) if text]
    asked = {
        **parameters,
        "input": [*_word_for_json(parameters, conversation.input, instructions), *conversation.input],
        "instructions": "\n\n".join(instructions) or None,
        "previous_response_id": conversation.previous_response_id,
    }
    passed = {name: value for name, value in asked.items() if name in _PASSED_ON and value is not None}
    body |= {name: value for name, value in asked.items() if name not in _PASSED_ON}
    background = {"background": True} if request.spec.background else {}
    return replace(request, messages=[], parameters={**passed, **({"extra_body": body} if body else {}), **background})


def _word_for_json(parameters: Mapping[str, Any], items: list[Item], instructions: Sequence[str]) -> list[Item]:
    """JSON mode needs the word JSON in the input, and here the system prompt is not part of the input."""
    format_ = parameters.get("text", {}).get("format")
    asked = isinstance(format_, Mapping) and format_.get("type") == "json_object"
    if not asked or _JSON not in "".join(instructions).lower() or _JSON in json.dumps(items).lower():
        return []
    return [{"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Respond with JSON."}]}]


def to_conversation(messages: Sequence[Mapping[str, Any]], provider: str | None) -> Conversation:
    """The conversation since the newest response that `provider` keeps. `provider` None: the whole conversation.

    Raises:
        LocalFaultError: a message has no counterpart.
    """
    system = list(_leading_system(messages))
    kept = _newest_kept(messages, provider) if provider else None
    first = len(system) if kept is None else kept + 1
    items = [item for index in range(first, len(messages)) for item in _items(index, messages[index])]
    if not items:  # the API needs some input, and a system prompt is enough
        return Conversation([item for index, message in enumerate(messages) for item in _items(index, message)])
    previous = None if kept is None else messages[kept]["response_id"]
    return Conversation(items, "\n\n".join(system) or None, previous)


def _leading_system(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Texts of the leading system messages."""
    for message in messages:
        content = message.get("content")
        if message["role"] not in _SYSTEM or not isinstance(content, str | list):
            return
        parts = [content] if isinstance(content, str) else [part.get("text") for part in content]
        if not all(isinstance(part, str) for part in parts):
            return
        yield "".join(parts)


def _newest_kept(messages: Sequence[Mapping[str, Any]], provider: str) -> int | None:
    """Index of the last message with a response that the provider may have, and with a message after it."""
    for index in range(len(messages) - 2, -1, -1):
        message = messages[index]
        response_id = message.get("response_id")
        by_chat = str(response_id).startswith(_CHAT_ID)
        if response_id and not by_chat and message.get("provider") in (None, provider):
            return index
    return None


def _items(index: int, message: Mapping[str, Any]) -> Iterator[Item]:
    match message["role"]:
        case "tool":
            content = message.get("content") or ""
            output = content if isinstance(content, str) else _parts(content, "input_text")
            yield {"type": "function_call_output", "call_id": message.get("tool_call_id"), "output": output}
        case "assistant" if not message.get("function_call"):
            yield from _assistant_items(message)
        case "assistant" | "function" as role:
            name = "role 'function'" if role == "function" else "'function_call'"
            text = f"messages[{index}]: the Responses API has no {name}; write a tool call and its result"
            raise LocalFaultError(LocalFault.REQUEST_NOT_BUILT, text)
        case role:
            yield {"type": "message", "role": role, "content": _parts(message.get("content"), "input_text")}


def _assistant_items(message: Mapping[str, Any]) -> Iterator[Item]:
    """Items of an assistant's message: its text and its tool calls."""
    parts = _parts(message.get("content"), "output_text")
    if message.get("refusal"):
        parts.append({"type": "refusal", "refusal": message["refusal"]})
    if parts:
        yield {"type": "message", "role": "assistant", "content": parts}
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        yield {
            "type": "function_call",
            "call_id": call.get("id"),
            "name": function.get("name"),
            "arguments": function.get("arguments") or "{}",
        }


def _parts(content: Any, text_type: str) -> list[Item]:
    if isinstance(content, str):
        return [{"type": text_type, "text": content}] if content else []
    return [converted for part in content or () if (converted := _part(part, text_type))]


def _part(part: Any, text_type: str) -> Item | None:
    match part:
        case str(text) | {"type": "text", "text": str(text)}:
            return {"type": text_type, "text": text}
        case {"type": "image_url", "image_url": str(url)}:
            return {"type": "input_image", "image_url": url, "detail": "auto"}
        case {"type": "image_url", "image_url": {"url": url, **rest}}:
            return {"type": "input_image", "image_url": url, "detail": rest.get("detail") or "auto"}
        case {"type": "file", "file": dict(file)}:
            return {"type": "input_file", **file}
        case {"type": "thinking" | "redacted_thinking"}:  # another provider's signature is not valid here
            return None
    return dict(part)


def _parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Chat's parameters under the names of the Responses API."""
    rest = {name: value for name, value in given.items() if name not in _CONVERTED}
    return {**rest, **_limits(given), **_sampling(given), **_text(given), **_reasoning(given), **_tools(given)}


def _limits(given: Mapping[str, Any]) -> dict[str, Any]:
    for name in ("max_output_tokens", "max_completion_tokens", "max_tokens"):
        if name in given:
            return {"max_output_tokens": given[name]}
    return {}


def _sampling(given: Mapping[str, Any]) -> dict[str, Any]:
    """In the Responses API, `logprobs` is a value of `include`, there is one choice, and usage is always returned."""
    options = {name: value for name, value in given.get("stream_options", {}).items() if name != "include_usage"}
    include = [*given.get("include", ()), *([_LOGPROBS] if given.get("logprobs") else [])]
    return {
        **({"n": given["n"]} if given.get("n", 1) != 1 else {}),
        **({"include": include} if include else {}),
        **({"stream_options": options} if options else {}),
    }


def _text(given: Mapping[str, Any]) -> dict[str, Any]:
    """In the Responses API, format and verbosity of the answer are one object."""
    asked = given.get("response_format")
    schema = asked.get("json_schema") if isinstance(asked, Mapping) else None
    format_ = {"type": "json_schema", **schema} if isinstance(schema, Mapping) else asked
    told = {"format": format_, "verbosity": given.get("verbosity")}
    text = {**given.get("text", {}), **{name: value for name, value in told.items() if value is not None}}
    return {"text": text} if text else {}


def _reasoning(given: Mapping[str, Any]) -> dict[str, Any]:
    effort = given.get("reasoning_effort")
    return {"reasoning": {"effort": effort, **given.get("reasoning", {})}} if effort is not None else {}


def _tools(given: Mapping[str, Any]) -> dict[str, Any]:
    converted: dict[str, Any] = {}
    if "tools" in given:
        converted["tools"] = [_tool(tool) for tool in given["tools"]]
    if "tool_choice" in given:
        converted["tool_choice"] = _tool_choice(given["tool_choice"])
    return converted


def _tool(tool: Mapping[str, Any]) -> Item:
    """In the Responses API, a function's fields are the tool's, and strict is the default. In chat it is not."""
    function = tool.get("function")
    return {"type": "function", "strict": False, **function} if isinstance(function, Mapping) else dict(tool)


def _tool_choice(choice: Any) -> Any:
    function = choice.get("function") if isinstance(choice, Mapping) else None
    return {"type": "function", **function} if isinstance(function, Mapping) else choice
