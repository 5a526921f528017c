"""From what callers write to a `Prompt`, checked before anything is sent."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from durable_llm.errors import InvalidRequestError, describe_validation_error
from durable_llm.request import Prompt

ROLES = ("system", "developer", "user", "assistant", "tool", "function")

Messages = str | Sequence[Mapping[str, Any] | BaseModel]
"""A user's question, or chat messages in OpenAI's shape."""

ResponseFormat = Mapping[str, Any] | type[BaseModel] | None
"""OpenAI's `response_format`, or a pydantic type whose instance comes back in `LLMResult.parsed`."""


def to_prompt(
    messages: Messages,
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    tool_choice: str | Mapping[str, Any] | None = None,
    response_format: ResponseFormat = None,
) -> Prompt:
    """Check and normalise the parts of a prompt.

    Raises:
        InvalidRequestError: naming the message or tool that is wrong.
    """
    if tools is not None and (isinstance(tools, str | Mapping) or not isinstance(tools, Sequence)):
        raise InvalidRequestError(f"tools: expected a list of tools, got {type(tools).__name__}")
    parts = {
        "messages": _messages(messages),
        "tools": [_tool(index, tool) for index, tool in enumerate(tools)] if tools is not None else None,
        "tool_choice": tool_choice,
        "response_format": _response_format(response_format),
    }
    try:
        # Through JSON: what is stored, compared and sent is the same plain data, whatever classes it was made of.
        return Prompt.model_validate_json(to_json(parts))
    except ValidationError as error:
        raise InvalidRequestError(describe_validation_error(error)) from None
    except (PydanticSerializationError, ValueError) as error:
        raise InvalidRequestError(f"messages: not representable as JSON ({type(error).__name__})") from None


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
        return dict(response_format)
    if isinstance(response_format, type) and issubclass(response_format, BaseModel):
        schema = response_format.model_json_schema()
        return {"type": "json_schema", "json_schema": {"name": response_format.__name__, "schema": schema}}
    raise InvalidRequestError("response_format: expected OpenAI's dict or a pydantic model class")
