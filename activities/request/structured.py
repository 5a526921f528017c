"""Ask a model for JSON: by its strict mode if it has one, otherwise by JSON mode and the system prompt.

litellm's table says which models have a strict mode. The corrections below were seen on the wire or in a provider's
documentation. In each case the answer is checked against the schema.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from ..litellm_setup import litellm
from .provider_request import ProviderRequest
from .strict_schema import is_object_schema, strict_schema

_ANY_MODEL: Final = frozenset({"hosted_vllm", "ollama", "ollama_chat", "lm_studio"})
"""Servers that decode along any schema with every model. litellm's table only knows models."""

_JSON_MODE_ONLY: Final = frozenset({"deepseek"})
"""Listed by litellm, but the provider refuses it: "This response_format type is unavailable now"."""

_OFTEN_BY_TOOL: Final = frozenset({"anthropic", "bedrock"})
_CLAUDE_ELSEWHERE: Final = frozenset({"vertex_ai", "azure_ai"})

_SYSTEM_ROLES: Final = ("system", "developer")


def schema_of(response_format: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The JSON Schema in a `response_format`. {}: any JSON object. None: no JSON is asked for."""
    kind = response_format.get("type") if response_format else None
    if response_format is None or kind not in ("json_schema", "json_object"):
        return None
    inner = response_format.get("json_schema")
    schema = inner.get("schema") if kind == "json_schema" and isinstance(inner, Mapping) else {"type": "object"}
    return dict(schema) if isinstance(schema, Mapping) else {}


def ask_for_json(request: ProviderRequest) -> ProviderRequest:
    """`request` in this model's way to ask for JSON with a schema. Unchanged without a schema."""
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
    """The `response_format` for a model with a strict mode. None: it has none, or not for this schema."""
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

    litellm also lists models of some families for which it turns the schema into a forced tool. Such a model could no
    longer call the caller's tools.
    """
    made_up = provider in _OFTEN_BY_TOOL or ("claude" in model and provider in _CLAUDE_ELSEWHERE)
    known = litellm.utils.supports_native_structured_output if made_up else litellm.supports_response_schema
    return bool(known(model=model, custom_llm_provider=provider))


def _has_json_mode(model: str, provider: str) -> bool:
    known = litellm.get_supported_openai_params(model=model, custom_llm_provider=provider)
    return "response_format" in (known or ())


def _instructed(messages: Sequence[dict[str, Any]], schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Messages with the schema in the leading system prompt.

    A later system message would not be sent if the conversation continues from a stored response.
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
