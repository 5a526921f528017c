"""From what callers write to a checked `Prompt`."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from durable_llm.contract.request import MAX_SCHEMA_BYTES, Prompt
from durable_llm.contract.validation import Validator
from durable_llm.contract.wire import describe_validation_error
from durable_llm.errors import InvalidRequestError

ROLES = ("system", "developer", "user", "assistant", "tool", "function")

TOOL_CHOICES: Final = ("none", "auto", "required")

_SCHEMA_TYPES: Final = ("object", "array", "string", "number", "integer", "boolean", "null")

Messages = str | Sequence[Mapping[str, Any] | BaseModel]
"""A user's question, or chat messages in OpenAI's shape."""

ResponseFormat = Mapping[str, Any] | type[BaseModel] | None
"""A pydantic type, a JSON Schema or OpenAI's `response_format`. `parsed` gets the type's instance or the JSON value."""


def to_prompt(
    messages: Messages,
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    tool_choice: str | Mapping[str, Any] | None = None,
    response_format: ResponseFormat = None,
    validators: Sequence[Validator] = (),
    tool_parser: str | None = None,
) -> Prompt:
    """Check and normalise the parts of a prompt.

    Raises:
        InvalidRequestError: a message or tool is wrong, or the schema is too large; names the part.
    """
    listed = _tools(tools)
    parts = {
        "messages": _messages(messages),
        "tools": listed,
        "tool_choice": _tool_choice(tool_choice, listed),
        "response_format": _response_format(response_format),
        "validators": validators,
        "tool_parser": tool_parser,
    }
    try:
        # Through JSON: the same plain data is stored, compared and sent, whatever classes the caller used.
        prompt = Prompt.model_validate_json(to_json(parts))
    except ValidationError as error:
        raise InvalidRequestError(describe_validation_error(error)) from None
    except (PydanticSerializationError, ValueError) as error:
        raise InvalidRequestError(f"messages: not representable as JSON ({type(error).__name__})") from None
    if (size := len(to_json(prompt.response_format))) > MAX_SCHEMA_BYTES:
        raise InvalidRequestError(
            f"response_format: takes {size:,} bytes as JSON and the limit is {MAX_SCHEMA_BYTES:,}; shorten the schema, "
            "or ask for its parts in separate calls"
        )
    return prompt


def _messages(messages: Messages) -> list[dict[str, Any]]:
    if isinstance(messages, str):
        if not messages.strip():
            raise InvalidRequestError("messages: the text is empty")
        return [{"role": "user", "content": messages}]
    if isinstance(messages, Mapping) or not isinstance(messages, Sequence):
        raise InvalidRequestError(
            "messages: expected a text or a list of messages like {'role': 'user', 'content': ...}"
        )
    if not messages:
        raise InvalidRequestError("messages: the list is empty")
    return [_message(index, message) for index, message in enumerate(messages)]


def _message(index: int, message: object) -> dict[str, Any]:
    place = f"messages[{index}]"
    if isinstance(message, BaseModel):
        message = message.model_dump(mode="json", exclude_none=True)
    if not isinstance(message, Mapping):
        raise InvalidRequestError(f"{place}: expected a dict with 'role' and 'content', got {type(message).__name__}")
    if "role" not in message:
        raise InvalidRequestError(f"{place}: no 'role'; write one of {', '.join(ROLES)}")
    if message["role"] not in ROLES:
        raise InvalidRequestError(f"{place}: unknown role; write one of {', '.join(ROLES)}")
    content = message.get("content")
    if not isinstance(content, str | list | None):
        raise InvalidRequestError(f"{place}: 'content' is a text or a list of parts, got {type(content).__name__}")
    if content is None and message["role"] != "assistant":
        raise InvalidRequestError(f"{place}: no 'content'")
    return dict(message)


def _tools(tools: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]] | None:
    if tools is None:
        return None
    if isinstance(tools, str | Mapping) or not isinstance(tools, Sequence):
        raise InvalidRequestError(f"tools: expected a list of tools, got {type(tools).__name__}")
    listed = [_tool(index, tool) for index, tool in enumerate(tools)]
    names = _names(listed)
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidRequestError(f"tools: more than one is named {', '.join(map(repr, repeated))}")
    return listed


def _names(tools: Sequence[Mapping[str, Any]]) -> list[str]:
    return [str(tool["function"]["name"]) for tool in tools]


def _tool_choice(
    choice: str | Mapping[str, Any] | None, tools: list[dict[str, Any]] | None
) -> str | dict[str, Any] | None:
    """OpenAI's `tool_choice`, if the tools allow it; as in lmi, "required" is accepted with an empty list of tools."""
    if choice is None or choice in TOOL_CHOICES:
        if choice == "required" and tools is None:
            raise InvalidRequestError("tool_choice: 'required' without tools; pass tools, or leave it out")
        return choice if isinstance(choice, str) else None
    function = choice.get("function") if isinstance(choice, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(choice, Mapping) or not isinstance(name, str):
        raise InvalidRequestError(
            f"tool_choice: expected {', '.join(map(repr, TOOL_CHOICES))} or, for one tool, "
            "{'type': 'function', 'function': {'name': ...}}"
        )
    if name not in _names(tools or []):
        listed = ", ".join(map(repr, _names(tools or []))) or "none"
        raise InvalidRequestError(f"tool_choice: names {name!r}, which is not among the tools ({listed})")
    return {"type": "function", **choice}


def _tool(index: int, tool: Mapping[str, Any]) -> dict[str, Any]:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    if not isinstance(function, Mapping) or not function.get("name"):
        raise InvalidRequestError(
            f"tools[{index}]: expected OpenAI's shape, "
            "{'type': 'function', 'function': {'name': ..., 'parameters': ...}}"
        )
    return dict(tool)


def _response_format(response_format: ResponseFormat) -> dict[str, Any] | None:
    if response_format is None:
        return None
    if isinstance(response_format, Mapping):
        return _from_dict(dict(response_format))
    if isinstance(response_format, type) and issubclass(response_format, BaseModel):
        return as_response_format(response_format.model_json_schema(), response_format.__name__)
    raise InvalidRequestError("response_format: expected a pydantic model class, a JSON Schema or OpenAI's dict")


def _from_dict(written: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's dict unchanged, or one around a plain JSON Schema: formats and schema types have different names."""
    kind = written.get("type")
    if kind == "json_schema":
        inner = written.get("json_schema")
        if not isinstance(inner, Mapping) or not isinstance(inner.get("schema"), Mapping):
            raise InvalidRequestError(
                "response_format: expected {'type': 'json_schema', 'json_schema': {'name': ..., 'schema': {...}}}"
            )
        return {**written, "json_schema": {"name": _identifier(str(inner["schema"].get("title") or "")), **inner}}
    if kind in ("text", "json_object"):
        return written
    if isinstance(kind, str) and kind not in _SCHEMA_TYPES:
        raise InvalidRequestError(
            "response_format: 'type' is not one of OpenAI's formats (text, json_object, json_schema) or of JSON "
            f"Schema's types ({', '.join(_SCHEMA_TYPES)})"
        )
    return as_response_format(written, str(written.get("title") or ""))


def as_response_format(schema: Mapping[str, Any], name: str) -> dict[str, Any]:
    """OpenAI's `response_format` for a JSON Schema; `name` is changed to one that its API accepts."""
    return {"type": "json_schema", "json_schema": {"name": _identifier(name), "schema": dict(schema)}}


def _identifier(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:64] or "answer"
