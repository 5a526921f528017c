"""Which provider parameters a caller may pass, and which are refused by name.

litellm takes its own settings (addresses, credentials, retries, callbacks, mocks) through the same keyword arguments as
the model's parameters. Measured: `fallbacks` made two requests in one attempt, `mock_response` gave an answer without
any request, `base_url` bypassed `api_base`. So there is a list of allowed names, and everything else is refused before
anything is sent. The operator may add to the list, except for names that steer litellm.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from durable_llm.contract.key_reference import find_literal_key, redact_literal_keys

ALLOWED: Final = frozenset({
    # OpenAI Chat Completions and Responses
    "audio", "frequency_penalty", "include", "instructions", "logit_bias", "logprobs", "max_completion_tokens",
    "max_output_tokens", "max_tokens", "max_tool_calls", "modalities", "n", "parallel_tool_calls", "prediction",
    "presence_penalty", "prompt_cache_key", "prompt_cache_retention", "reasoning", "reasoning_effort",
    "safety_identifier", "seed", "service_tier", "stop", "store", "stream", "stream_options",
    "temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p", "truncation", "user",
    "verbosity", "web_search_options",
    # Anthropic, Gemini, Mistral, vLLM and others
    "cached_content", "generation_config", "guided_choice", "guided_json", "guided_regex", "media_resolution", "min_p",
    "output_config", "prompt_mode", "repetition_penalty", "safe_prompt", "safety_settings", "safetySettings",
    "stop_sequences", "thinking", "thinking_config", "top_a", "top_k",
    # Embeddings
    "encoding_format", "input_type", "task_type", "truncate",
    # Azure OpenAI's version of the API
    "api_version",
    # litellm's two ways to pass what it has no name for; their contents are checked for credentials
    "extra_body", "extra_headers",
})  # fmt: skip
"""Request-shaping parameters that every worker accepts."""

REPLACEMENTS: Final[Mapping[str, str]] = {
    "api_key": "set the spec's own api_key to a reference",
    "api_base": "set the spec's own api_base",
    "base_url": "set the spec's own api_base",
    "model": "set the spec's own name",
    "timeout": "set the spec's own timeout",
    "request_timeout": "set the spec's own timeout",
    "max_retries": "set the spec's own max_retries",
    "num_retries": "set the spec's own max_retries",
    "fallbacks": "list the models in LLMConfig(models=[...])",
    "messages": "pass messages to call() or submit()",
    "input": "pass texts to embed()",
    "dimensions": "pass dimensions to embed()",
    "response_format": "pass response_format to call() or submit(); answers are checked against it",
    "tool_parser": "set LLMConfig's own tool_parser to a name",
    "response_validator": "set LLMConfig's own response_validator to a name, or pass validators to call() or submit()",
    "background": "set the spec's own background",
    "previous_response_id": "give the assistant's message its 'response_id'",
}
"""What to write instead of a parameter that has a place of its own."""

STEERING: Final = frozenset({
    "callbacks", "client", "content_policy_fallbacks", "context_window_fallback_dict", "custom_llm_provider",
    "failure_callback", "logger_fn", "max_fallbacks", "mock_delay", "mock_response", "mock_timeout", "mock_tool_calls",
    "model_list", "retry_policy", "retry_strategy", "shared_session", "success_callback",
})  # fmt: skip
"""litellm's own retries, fallbacks, mocks, callbacks and clients, which would break the rule of one request."""

_CREDENTIAL_NAMES = frozenset({
    "authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "apikey", "api_key", "x-goog-api-key",
    "x-auth-token", "access_token", "token", "bearer", "secret", "password", "credentials", "x-amz-security-token",
    "ocp-apim-subscription-key", "x-goog-iam-authorization-token", "cf-aig-authorization", "helicone-auth",
})  # fmt: skip
_CREDENTIAL_ENDINGS = ("-key", "_key", "-token", "_token", "-secret", "_secret", "-auth", "password", "authorization")
# These only look like credentials; they shape the request.
_NOT_CREDENTIALS = frozenset(
    {"prompt_cache_key", "cache_key", "logit_bias_token", "stop_token", "eos_token", "pad_token"}
)
_AUTHORIZES = re.compile(r"(?i)\s*(?:bearer|basic|token|apikey)\s+\S")
"""A header's value that is a credential, whatever the header's name."""

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
"""A token of RFC 9110, 5.6.2."""

_API_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?|preview|latest|v1")
_STEERING_HEADERS = frozenset({"host", "content-length", "transfer-encoding", "connection"})


def is_credential_name(name: str) -> bool:
    """Whether the name of a header, field or query parameter says that its value is a credential."""
    low = name.strip().lower()
    return low not in _NOT_CREDENTIALS and (low in _CREDENTIAL_NAMES or low.endswith(_CREDENTIAL_ENDINGS))


def check_parameters(parameters: Mapping[str, Any], also_allowed: Collection[str] = ()) -> None:
    """Refuse every parameter that is not on the list, and what `check_values` refuses.

    Args:
        parameters: A spec's `extra_params`.
        also_allowed: Names that the operator added to the list.

    Raises:
        ValueError: names the parameter and says what to write instead; it never repeats a value.
    """
    check_values(parameters)
    for name in parameters:
        if name not in ALLOWED and name not in also_allowed:
            raise ValueError(
                f"extra_params: {name!r} is refused: it is not on the list of request-shaping parameters; to send a "
                "field that the provider knows use extra_body, or have the operator add it to DURABLE_LLM_EXTRA_PARAMS "
                "on client and worker"
            )


def check_values(parameters: Mapping[str, Any]) -> None:
    """Refuse what no operator can allow: names that steer litellm, credentials, values that contradict each other.

    Raises:
        ValueError: as `check_parameters`.
    """
    for name in parameters:
        if advice := REPLACEMENTS.get(name) or (name in STEERING and "it steers litellm, not the request"):
            raise ValueError(f"extra_params: {name!r} is refused: {advice}")
        if find_literal_key(name):
            raise ValueError(f"extra_params: {redact_literal_keys(name)!r} is refused: it looks like a key")
    text = parameters.get("text")
    if isinstance(text, Mapping) and "format" in text:
        raise ValueError(f"extra_params: 'format' inside 'text' is refused: {REPLACEMENTS['response_format']}")
    _check_api_version(parameters)
    headers = parameters.get("extra_headers") or {}
    if not isinstance(headers, Mapping):
        raise ValueError("extra_headers: expected a mapping of header names to values")
    for header, value in headers.items():
        if not _HEADER_NAME.fullmatch(str(header)):
            shown = redact_literal_keys(str(header))[:100]
            raise ValueError(f"extra_headers: {shown!r} is not the name of a header (RFC 9110)")
        if is_credential_name(header) or header.lower() in _STEERING_HEADERS or _AUTHORIZES.match(str(value)):
            shown = redact_literal_keys(header)
            raise ValueError(f"extra_headers: {shown!r} is refused; credentials go into api_key as a reference")
    if parameters.get("stream") and (parameters.get("n") or 1) != 1:
        raise ValueError("extra_params: 'stream' is refused together with 'n': a stream is read as one answer")
    for name, value in parameters.items():
        if is_credential_name(name) and isinstance(value, str):
            raise ValueError(f"{name}: a credential is refused here; a key goes into api_key as a reference")
        _check_nested(name, value)


def _check_api_version(parameters: Mapping[str, Any]) -> None:
    """Check Azure's api_version, and that it stands where it belongs.

    Raises:
        ValueError: it is not a version, or it is among headers or in the body.
    """
    version = parameters.get("api_version")
    if version is not None and not (isinstance(version, str) and _API_VERSION.fullmatch(version)):
        raise ValueError("api_version: expected a version like '2025-04-01-preview', 'preview' or 'latest'")
    for place in ("extra_headers", "extra_body", "extra_query"):
        names = parameters.get(place)
        if isinstance(names, Mapping) and any(str(name).lower().replace("_", "-") == "api-version" for name in names):
            raise ValueError(f"{place}: 'api-version' is refused here; write extra_params={{'api_version': '...'}}")


def _check_nested(path: str, value: Any) -> None:
    """Refuse a field with a credential's name, or a text recognisable as a key, anywhere in a parameter's value."""
    if isinstance(value, str) and find_literal_key(value):
        raise ValueError(f"{path}: holds what looks like a key; a key goes into api_key as a reference")
    if isinstance(value, Mapping):
        for name, inner in value.items():
            # A JSON Schema may describe a property called "token"; only string values count.
            if find_literal_key(str(name)):
                raise ValueError(f"{path}: a name in it looks like a key; a key goes into api_key as a reference")
            if is_credential_name(str(name)) and isinstance(inner, str):
                raise ValueError(f"{path}.{name}: a credential is refused here; a key goes into api_key as a reference")
            _check_nested(f"{path}.{name}", inner)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _check_nested(f"{path}[{index}]", inner)
