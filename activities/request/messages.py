"""Convert a transcript for one provider.

An earlier model's answer is bound to its provider: signed thinking, thought signatures, ids in its own format, and the
fields that `LLMResult.message()` adds. litellm passes nearly all of them on (measured: to OpenAI, Groq, DeepSeek and
most others every key, known or not), and a provider answers 400 to another provider's key or signature. Without this
module the fallback to another provider would fail.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from ..litellm_setup import THOUGHT_SEPARATOR
from .provider_request import ProviderRequest

_CLAUDE: Final = "claude"
_GOOGLE: Final = "google"

_RESPONSES: Final = "responses"
"""The Responses API: its input is built from messages, and it takes longer ids."""

_CLAUDES_CLOUDS: Final = frozenset({"bedrock", "bedrock_converse", "vertex_ai", "azure_ai", "databricks"})
"""Providers that serve Claude beside other models. Anthropic's signatures are valid on each."""

_GOOGLES: Final = frozenset({"gemini", "vertex_ai", "vertex_ai_beta"})
_OF_MANY: Final = _CLAUDES_CLOUDS | {"vertex_ai_beta"}
"""Providers that serve models of several families."""

_COMMON: Final = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "function_call"})
_ALSO: Final[Mapping[str, frozenset[str]]] = {
    _CLAUDE: frozenset({"thinking_blocks", "cache_control"}),
    _GOOGLE: frozenset({"provider_specific_fields"}),
    "openai": frozenset({"refusal", "audio"}),
    "azure": frozenset({"refusal", "audio"}),
    _RESPONSES: frozenset({"refusal"}),
    "openrouter": frozenset({"reasoning_details", "cache_control"}),
    "dashscope": frozenset({"cache_control"}),
    "minimax": frozenset({"cache_control"}),
    "mistral": frozenset({"prefix"}),
    # These need the reasoning back after a tool call, and accept that of other models.
    "deepseek": frozenset({"reasoning_content", "prefix"}),
    "moonshot": frozenset({"reasoning_content", "partial"}),
    "zai": frozenset({"reasoning_content", "cache_control"}),
    "xiaomi_mimo": frozenset({"reasoning_content"}),
    "hosted_vllm": frozenset({"reasoning_content"}),
}
"""Keys of a message that only some providers take."""

_BOUND: Final = frozenset({"thinking_blocks", "provider_specific_fields", "reasoning_details", "audio"})
"""Keys that only their own provider understands."""

_CALL: Final = frozenset({"id", "type", "function", "custom"})
_THINKING: Final = frozenset({"thinking", "redacted_thinking"})

_ID_CHARS: Final[Mapping[str, int]] = {"openai": 40, "azure": 40, _RESPONSES: 64}
_GOING_ON: Final = ("response_id", "provider")
_MISTRAL_ID: Final = re.compile(r"[a-zA-Z0-9]{9}")


def adapt_messages(request: ProviderRequest) -> ProviderRequest:
    """The request with messages that its provider understands.

    Empty lists of tool calls are removed: OpenAI refuses them, and for Anthropic litellm invents a tool.
    """
    adapted = for_provider(request.messages, request.provider, request.spec.name)
    messages = [
        {name: value for name, value in message.items() if name != "tool_calls" or value} for message in adapted
    ]
    return replace(request, messages=messages)


def for_provider(messages: Iterable[Mapping[str, Any]], provider: str, model: str) -> list[dict[str, Any]]:
    """`messages` with only what `provider` understands.

    It keeps the keys of OpenAI's format and the provider's own. It drops unknown keys and what another provider signed.

    Args:
        messages: In OpenAI's format. They are not changed. `provider` and `model` of an assistant's message say who
            wrote it.
        provider: litellm's name of the provider.
        model: The model.
    """
    family = _family(provider, model)
    return [_message(message, family) for message in messages]


def for_responses(messages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """`messages` with what the Responses API can express, and the ids of their stored responses."""
    return [
        {**_message(message, _RESPONSES), **{name: message[name] for name in _GOING_ON if name in message}}
        for message in messages
    ]


def without_cache_marks(tools: Iterable[Any], provider: str, model: str) -> list[Any]:
    """`tools` without cache marks, unless the provider reads them."""
    taken = _ALSO.get(_family(provider, model), frozenset())
    return [_tool(tool, taken) for tool in tools]


def _family(provider: str, model: str) -> str:
    if provider == "anthropic" or (provider in _CLAUDES_CLOUDS and "claude" in model.lower()):
        return _CLAUDE
    return _GOOGLE if provider in _GOOGLES else provider


def _wrote(message: Mapping[str, Any], family: str) -> bool:
    """Whether a model of this family may have written the message. A message without a writer may be anyone's."""
    provider, model = message.get("provider"), message.get("model")
    if provider is None:
        return True
    if provider in _OF_MANY and not model:
        return False
    return _family(str(provider), str(model)) == family


def _message(message: Mapping[str, Any], family: str) -> dict[str, Any]:
    own = _wrote(message, family)
    taken = _COMMON | (_ALSO.get(family, frozenset()) - (frozenset() if own else _BOUND))
    message = _unpacked(message)
    parts = {name: _converted(name, value, taken, family) for name, value in message.items() if name in taken}
    kept = {name: value for name, value in parts.items() if value not in (None, [], {}) or name == "content"}
    if not kept.get("content") and (text := _text_of_other_key(message, kept)):
        kept["content"] = text
    return kept


def _unpacked(message: Mapping[str, Any]) -> dict[str, Any]:
    """OpenRouter needs at the top level what litellm puts among the provider's fields."""
    details = (message.get("provider_specific_fields") or {}).get("reasoning_details")
    return {"reasoning_details": details, **message}


def _text_of_other_key(message: Mapping[str, Any], kept: Mapping[str, Any]) -> str | None:
    """The text of an answer without content, from a key that is not sent."""
    if "refusal" not in kept and isinstance(message.get("refusal"), str):
        return str(message["refusal"])
    audio = message.get("audio")
    return audio.get("transcript") if "audio" not in kept and isinstance(audio, Mapping) else None


def _converted(name: str, value: Any, taken: frozenset[str], family: str) -> Any:
    match name:
        case "content" if isinstance(value, list):
            return [_part(part, taken) for part in value if not _foreign_thinking(part, taken)]
        case "tool_calls" if isinstance(value, list):
            return [_call(call, taken, family) for call in value]
        case "tool_call_id" if isinstance(value, str):
            return _call_id(value, family)
        case "thinking_blocks" if isinstance(value, list):
            return [block for block in value if block.get("signature") or block.get("data")]
        case "provider_specific_fields" if isinstance(value, Mapping):
            return {key: value[key] for key in ("thought_signatures",) if value.get(key)}
        case "audio" if isinstance(value, Mapping):
            return {"id": value["id"]} if value.get("id") else None
    return value


def _part(part: Any, taken: frozenset[str]) -> Any:
    """A part of a content, or a tool, without its cache mark, unless the provider reads it."""
    if "cache_control" in taken or not isinstance(part, Mapping):
        return part
    return {name: value for name, value in part.items() if name != "cache_control"}


def _tool(tool: Any, taken: frozenset[str]) -> Any:
    tool = _part(tool, taken)
    function = tool.get("function") if isinstance(tool, Mapping) else None
    return {**tool, "function": _part(function, taken)} if isinstance(function, Mapping) else tool


def _foreign_thinking(part: Any, taken: frozenset[str]) -> bool:
    return "thinking_blocks" not in taken and isinstance(part, Mapping) and part.get("type") in _THINKING


def _call(call: Mapping[str, Any], taken: frozenset[str], family: str) -> dict[str, Any]:
    kept = {name: value for name, value in call.items() if name in _CALL}
    if isinstance(kept.get("function"), Mapping):
        kept["function"] = {key: kept["function"][key] for key in ("name", "arguments") if key in kept["function"]}
    signature = _signature(call)
    if isinstance(call.get("id"), str):
        kept["id"] = _call_id(call["id"], family)
    if signature and "provider_specific_fields" in taken:
        kept["provider_specific_fields"] = {"thought_signature": signature}
    return kept


def _signature(call: Mapping[str, Any]) -> str | None:
    """Gemini's signature of a tool call: in its fields, or in its id, as litellm writes it."""
    fields = call.get("provider_specific_fields")
    signed = fields.get("thought_signature") if isinstance(fields, Mapping) else None
    return signed or str(call.get("id") or "").partition(THOUGHT_SEPARATOR)[2] or None


def _call_id(call_id: str, family: str) -> str:
    """An id that the provider accepts, the same for a call and its result.

    Mistral needs nine letters and digits. OpenAI takes at most 40 characters, its Responses API 64. litellm follows the
    rules of Anthropic and Amazon.
    """
    plain = call_id.partition(THOUGHT_SEPARATOR)[0]
    if family == "mistral" and not _MISTRAL_ID.fullmatch(plain):
        return hashlib.sha256(plain.encode()).hexdigest()[:9]
    if len(plain) > (most := _ID_CHARS.get(family, len(plain))):
        return hashlib.sha256(plain.encode()).hexdigest()[:most]
    return plain
