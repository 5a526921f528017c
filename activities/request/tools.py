"""Tools in a provider's request.

litellm drops values that some providers accept: Mistral's choice of one tool, and every choice if it does not see the
tools.
"""

from collections.abc import Mapping
from typing import Any, Final

from .messages import without_cache_marks
from .provider_request import ProviderRequest
from .tool_shapes import tools_in_body

_NEED_TOOLS: Final = ("tool_choice", "parallel_tool_calls")
_DROPS_NAMED_CHOICE: Final = frozenset({"mistral"})
_OWN_WORDS: Final = frozenset({
    "anthropic", "bedrock", "bedrock_converse", "cohere", "cohere_chat", "gemini", "ollama", "ollama_chat", "vertex_ai",
})  # fmt: skip
"""Providers with their own format for a choice, into which litellm converts it in every case."""


def adapt_tools(request: ProviderRequest) -> ProviderRequest:
    """The request with tools in the provider's form.

    Without tools their options are removed: OpenAI answers them with a 400.
    """
    parameters = request.parameters
    if tools := parameters.get("tools"):
        request = request.with_parameters(tools=without_cache_marks(tools, request.provider, request.spec.name))
    elif not tools_in_body(parameters):
        return request.with_parameters("tools", *_NEED_TOOLS)
    if "tool_choice" not in parameters or request.spec.responses_api or not _drops_choice(request.provider, parameters):
        return request
    body = {"tool_choice": parameters["tool_choice"], **(parameters.get("extra_body") or {})}
    return request.with_parameters("tool_choice", extra_body=body)


def _drops_choice(provider: str, parameters: Mapping[str, Any]) -> bool:
    """Whether litellm drops the choice: of one tool for Mistral, and every choice if it does not see the tools."""
    if provider in _DROPS_NAMED_CHOICE and isinstance(parameters["tool_choice"], Mapping):
        return True
    return not parameters.get("tools") and provider not in _OWN_WORDS
