"""The HTTP requests of chat completions and embeddings on OpenAI's wire. Others go through litellm."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

import httpx

from ..litellm_openai import chat_body
from .provider_request import ProviderRequest

_MAPPED: Final = frozenset({
    "api_base", "api_key", "extra_body", "extra_headers", "frequency_penalty", "logit_bias", "logprobs",
    "max_completion_tokens", "max_tokens", "n", "parallel_tool_calls", "presence_penalty", "prompt_cache_key",
    "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop", "store", "temperature",
    "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity",
})  # fmt: skip
"""Parameters that litellm maps in one place. With others it changes the request in further places."""

_ACCESS: Final = ("api_base", "api_key", "extra_headers")
_ADDRESS: Final = "https://api.openai.com/v1"


async def openai_chat(request: ProviderRequest) -> httpx.Request | None:
    """The HTTP request, or None if litellm has to send it.

    Raises:
        Exception: a class of litellm's: a parameter is refused.
    """
    parameters = request.parameters
    if request.provider != "openai" or request.spec.name.startswith("openai/responses/"):
        return None
    if not parameters.keys() <= _MAPPED or not _is_plain(parameters):
        return None
    given = {name: value for name, value in parameters.items() if name not in _ACCESS}
    base = _base(parameters)
    body = await chat_body(request.model, request.messages, given, base)
    if body is None:
        return None
    return httpx.Request("POST", _address(base, "chat/completions"), headers=_headers(parameters), json=body)


def openai_embeddings(model: str, texts: Sequence[str], parameters: Mapping[str, Any]) -> httpx.Request:
    """The HTTP request for embeddings. OpenAI itself is asked for base64, as its own client does.

    Args:
        model: The provider's name of the model.
        texts: What to embed.
        parameters: `api_base`, `api_key`, `extra_headers`, `extra_body`, and what belongs into the body.
    """
    base = _base(parameters)
    encoding = {} if base else {"encoding_format": "base64"}
    given = {name: value for name, value in parameters.items() if name not in (*_ACCESS, "extra_body")}
    body = {"model": model, "input": list(texts), **encoding, **given, **(parameters.get("extra_body") or {})}
    return httpx.Request("POST", _address(base, "embeddings"), headers=_headers(parameters), json=body)


def _base(parameters: Mapping[str, Any]) -> str | None:
    """The API's address, from the same variables as litellm's. None: OpenAI's own."""
    environment = os.environ
    return parameters.get("api_base") or environment.get("OPENAI_BASE_URL") or environment.get("OPENAI_API_BASE")


def _address(base: str | None, path: str) -> str:
    return f"{(base or _ADDRESS).rstrip('/')}/{path}"


def _is_plain(parameters: Mapping[str, Any]) -> bool:
    """Whether litellm finds nothing in the parameters for which it asks another API, or drops a field."""
    body = parameters.get("extra_body") or {}
    tools = parameters.get("tools") or ()
    return (
        isinstance(parameters.get("reasoning_effort", ""), str)
        and not any("reasoning" in name.lower() for name in body)
        and all(isinstance(tool, Mapping) and tool.keys() <= {"type", "function"} for tool in tools)
    )


def _headers(parameters: Mapping[str, Any]) -> dict[str, str]:
    """The headers of OpenAI's own client, from the same variables."""
    environment = os.environ
    headers = {
        "Accept": "application/json",
        "Authorization": f"Bearer {parameters.get('api_key') or environment.get('OPENAI_API_KEY')}",
        "OpenAI-Organization": environment.get("OPENAI_ORGANIZATION") or environment.get("OPENAI_ORG_ID"),
        "OpenAI-Project": environment.get("OPENAI_PROJECT_ID"),
        **(parameters.get("extra_headers") or {}),
    }
    return {name: value for name, value in headers.items() if value is not None}
