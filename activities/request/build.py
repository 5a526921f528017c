"""Build the provider's request from an order and a prompt, step by step.

litellm's arguments decide what it sends. So the spec is checked again here: the client may be older than the rules, or
another program.
"""

from collections.abc import Collection
from typing import Final

from durable_llm.contract.config import ModelSpecOnWire, check_address, check_background, check_batch
from durable_llm.contract.facts import LocalFault
from durable_llm.contract.parameters import check_parameters
from durable_llm.contract.request import Prompt

from ..faults import LocalFaultError
from ..litellm_setup import litellm, provider_of
from ..secrets.providers import SELF_HOSTED, UNOBSERVED
from .messages import adapt_messages
from .provider_request import ProviderRequest
from .responses import to_responses
from .structured import ask_for_json
from .tools import adapt_tools

_WITH_RESPONSES: Final = frozenset({"openai", "azure"})
_WITH_BATCHES: Final = frozenset({"openai", "anthropic"})
_LOGPROBS: Final = ("logprobs", "top_logprobs")
_BINARY_STREAMS: Final = frozenset({"bedrock", "bedrock_converse", "sagemaker", "sagemaker_chat"})


def check_spec(spec: ModelSpecOnWire, also_allowed: Collection[str]) -> str:
    """Check a spec as the client does, and whether its provider can be asked this way.

    Args:
        spec: The model and its parameters.
        also_allowed: Names of parameters that the operator allows in addition.

    Returns:
        litellm's name of the spec's provider.

    Raises:
        LocalFaultError: the address, a parameter or the provider is refused; says what to write instead.
    """
    try:
        check_parameters(spec.extra_params, also_allowed)
    except ValueError as error:
        raise LocalFaultError(LocalFault.PARAMETER_NOT_ALLOWED, str(error)) from None
    try:
        if spec.api_base is not None:
            check_address(spec.api_base)
    except ValueError as error:
        raise LocalFaultError(LocalFault.ADDRESS_NOT_ALLOWED, str(error)) from None
    provider = provider_of(spec.name, spec.api_base)
    if provider in SELF_HOSTED and spec.api_base is None:
        raise LocalFaultError(
            LocalFault.ADDRESS_NOT_ALLOWED,
            f"{provider} has no address that everybody knows; set the spec's api_base, and have the operator list its "
            "host in DURABLE_LLM_API_BASE_HOSTS",
        )
    if refusal := _unsupported(provider, spec):
        raise LocalFaultError(LocalFault.UNSUPPORTED, refusal)
    return provider


def _unsupported(provider: str, spec: ModelSpecOnWire) -> str | None:
    """Why the provider cannot be asked as the spec says. None: it can."""
    if spec.responses_api and provider not in _WITH_RESPONSES:
        return f"responses_api: {provider} is asked by Chat Completions; leave it out"
    if spec.batch and provider not in _WITH_BATCHES:
        return f"batch: {provider} has no Batch API that is known here; leave it out"
    try:
        check_background(spec)
        check_batch(spec)
    except ValueError as error:
        return str(error)
    if spec.extra_params.get("stream") and provider in _BINARY_STREAMS:
        return f"streams of {provider} cannot be checked; leave 'stream' out: the answer is the same"
    if "api_version" in spec.extra_params and not provider.startswith("azure"):
        return f"api_version: {provider} has none; it belongs to azure/..."
    if provider in UNOBSERVED:
        return f"requests to {provider} cannot be observed; use 'openai/...' with api_base"
    return None


def streamed(spec: ModelSpecOnWire, provider: str) -> ModelSpecOnWire:
    """The spec with `stream`, if its answer can be read while it is written.

    A background response is polled, several choices are not one answer, and some streams cannot be checked.
    """
    several = (spec.extra_params.get("n") or 1) != 1
    if spec.background or several or provider in _BINARY_STREAMS or "stream" in spec.extra_params:
        return spec
    return spec.model_copy(update={"extra_params": {**spec.extra_params, "stream": True}})


def build_request(
    spec: ModelSpecOnWire, provider: str, prompt: Prompt, api_key: str | None, *, all_messages: bool = False
) -> ProviderRequest:
    """The request to the spec's model with `prompt`.

    Args:
        spec: The checked spec.
        provider: litellm's name of its provider.
        prompt: The prompt.
        api_key: The key. None: litellm takes the provider's own variables.
        all_messages: Whether to send the messages that a stored response replaces.

    Raises:
        LocalFaultError: the request cannot be expressed for this provider.
    """
    asked = {
        "tools": prompt.tools,
        "tool_choice": prompt.tool_choice,
        "response_format": prompt.response_format,
        "api_base": spec.api_base,
        "api_key": api_key,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    request = ProviderRequest(spec, provider, prompt.messages, {**spec.extra_params, **given})
    request = ask_for_json(request)
    request = _put_effort_for_openrouter(request)
    request = _ask_for_streamed_usage(request)
    request = adapt_tools(request)
    if not spec.responses_api:
        return adapt_messages(request)
    _check_logprobs(request)
    return to_responses(request, all_messages=all_messages)


def _put_effort_for_openrouter(request: ProviderRequest) -> ProviderRequest:
    """OpenRouter takes the effort in its own `reasoning` object. litellm drops it at the top level."""
    effort = request.parameters.get("reasoning_effort")
    if not request.spec.name.startswith("openrouter/") or "reasoning_effort" not in request.parameters:
        return request
    body = dict(request.parameters.get("extra_body") or {})
    body["reasoning"] = {"effort": effort, **(body.get("reasoning") or {})}
    return request.with_parameters("reasoning_effort", extra_body=body)


def _ask_for_streamed_usage(request: ProviderRequest) -> ProviderRequest:
    """Ask for usage. Without this option a provider does not count the tokens of a streamed answer."""
    if not request.parameters.get("stream") or "stream_options" in request.parameters:
        return request
    return request.with_parameters(stream_options={"include_usage": True})


def _check_logprobs(request: ProviderRequest) -> None:
    """Check log probabilities as litellm does for chat. For the Responses API it does not check them.

    Raises:
        LocalFaultError: the model has no log probabilities.
    """
    taken = litellm.get_supported_openai_params(model=request.model, custom_llm_provider=request.provider)
    refused = [name for name in _LOGPROBS if request.parameters.get(name) and taken and name not in taken]
    if refused:
        text = f"{' and '.join(refused)}: {request.model} gives no log probabilities; leave them out of this spec"
        raise LocalFaultError(LocalFault.UNSUPPORTED, text)
