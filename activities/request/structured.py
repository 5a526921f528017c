"""How a model is asked for JSON: by its strict mode if it has one, else by JSON mode and a word in the system prompt.

Which models have one, litellm's table says; the corrections to it below were seen on the wire or in the provider's own
words. Whatever the way, the answer is checked against the schema when it is there.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from ..litellm_setup import litellm
from .provider_request import ProviderRequest
from .strict_schema import is_object_schema, strict_schema

_ANY_MODEL: Final = frozenset({"hosted_vllm", "ollama", "ollama_chat", "lm_studio"})
"""Servers that decode along any schema, whatever the model; litellm's table knows models only."""

_JSON_MODE_ONLY: Final = frozenset({"deepseek"})
"""Listed by litellm, refused by the provider: "This response_format type is unavailable now"."""

_OFTEN_BY_TOOL: Final = frozenset({"anthropic", "bedrock"})
_CLAUDE_ELSEWHERE: Final = frozenset({"vertex_ai", "azure_ai"})

_SYSTEM_ROLES: Final = ("system", "developer")


def schema_of(response_format: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The JSON Schema in a `response_format`; {} for any JSON object, None where no JSON is asked for."""
    kind = response_format.get("type") if response_format else None
    if response_format is None or kind not in ("json_schema", "json_object"):
        return None
    inner = response_format.get("json_schema")
    schema = inner.get("schema") if kind == "json_schema" and isinstance(inner, Mapping) else {"type": "object"}
    return dict(schema) if isinstance(schema, Mapping) else {}


def ask_for_json(request: ProviderRequest) -> ProviderRequest:
    """`request` as this model is asked for JSON that follows a schema; unchanged where no schema is asked for."""
    asked = request.parameters.get("response_format")
    if asked is None or asked.get("type") != "json_schema":
        return request
    if native := _native(asked, request.model, request.provider):
        return request.with_parameters(response_format=native)
    schema = schema_of(asked) or {}
    request = replace(request.with_parameters("response_format"), messages=_instructed(request.messages, schema))
    if not is_object_schema(schema) or not _has_json_mode(request.model, request.provider):
        return request
    return request.with_parameters(response_format={"type": "json_object"})


def _native(asked: Mapping[str, Any], model: str, provider: str) -> dict[str, Any] | None:
    """What to send to a model that takes a schema; None where it takes none, or not this one."""
    inner = asked["json_schema"]
    if provider in _ANY_MODEL:
        return dict(asked)
    if provider in _JSON_MODE_ONLY or not _takes_schemas(model, provider):
        return None
    if "strict" in inner:  # the caller knows the provider's rules
        return dict(asked)
    schema = strict_schema(inner["schema"])
    return {**asked, "json_schema": {**inner, "strict": True, "schema": schema}} if schema is not None else None


def _takes_schemas(model: str, provider: str) -> bool:
    """Whether the model decodes along a schema.

    Of these families litellm also lists models for which it makes a tool of the schema and forces that: such a model
    could call no tool of the caller's any more.
    """
    made_up = provider in _OFTEN_BY_TOOL or ("claude" in model and provider in _CLAUDE_ELSEWHERE)
    known = litellm.utils.supports_native_structured_output if made_up else litellm.supports_response_schema
    return bool(known(model=model, custom_llm_provider=provider))


def _has_json_mode(model: str, provider: str) -> bool:
    known = litellm.get_supported_openai_params(model=model, custom_llm_provider=provider)
    return "response_format" in (known or ())


def _instructed(messages: Sequence[dict[str, Any]], schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Messages whose leading system prompt tells of the schema.

    One in mid-conversation would not do: it is not sent where a conversation goes on from a stored response.
    """
    text = (
        "Respond with JSON that follows this JSON schema, and with nothing beside it:\n\n"
        f"{json.dumps(schema, ensure_ascii=False)}"
    )
    if not messages or messages[0].get("role") not in _SYSTEM_ROLES:
        return [{"role": "system", "content": text}, *messages]
    return [{**messages[0], "content": _appended(messages[0].get("content"), text)}, *messages[1:]]


def _appended(content: Any, text: str) -> Any:
    if isinstance(content, list):
        return [*content, {"type": "text", "text": text}]
    return f"{content}\n\n{text}" if content else text
