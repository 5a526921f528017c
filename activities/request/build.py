"""The one call of litellm: an order and a prompt turned into its arguments.

What litellm is given decides what it sends, so what a caller wrote is checked here again: a client can be older than
the rules, or not ours at all.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

from durable_llm.contract.config import ModelSpecOnWire, check_address, check_background
from durable_llm.contract.facts import LocalFault
from durable_llm.contract.parameters import check_parameters
from durable_llm.contract.request import Prompt

from ..failure.facts import LocalFaultError
from ..litellm_setup import FIXED_ARGUMENTS, litellm
from ..secrets.key_ring import Passage
from ..secrets.providers import UNOBSERVED
from .messages import for_provider, for_responses, tools_for
from .responses import to_responses
from .structured import for_model
from .tools import tool_parameters, without_empty_calls

_WITH_RESPONSES: Final = frozenset({"openai", "azure"})
_LOGPROBS: Final = ("logprobs", "top_logprobs")
_BINARY_STREAMS: Final = frozenset({"bedrock", "bedrock_converse", "sagemaker", "sagemaker_chat"})


def check_spec(spec: ModelSpecOnWire, also_allowed: Collection[str]) -> None:
    """Refuse what no client of ours would have sent.

    Raises:
        LocalFaultError: the address or a parameter is not allowed.
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


def check_provider(provider: str, spec: ModelSpecOnWire) -> None:
    """Refuse a provider whose requests cannot be observed, whose streams cannot be read, or without the asked API.

    Raises:
        LocalFaultError: it is one.
    """
    if spec.responses_api and provider not in _WITH_RESPONSES:
        raise LocalFaultError(
            LocalFault.UNSUPPORTED, f"responses_api: {provider} is asked by Chat Completions; leave it out"
        )
    try:
        check_background(spec)
    except ValueError as error:
        raise LocalFaultError(LocalFault.UNSUPPORTED, str(error)) from None
    if spec.extra_params.get("stream") and provider in _BINARY_STREAMS:
        raise LocalFaultError(
            LocalFault.UNSUPPORTED,
            f"streams of {provider} cannot be checked; leave 'stream' out: the answer is the same",
        )
    if provider in UNOBSERVED:
        raise LocalFaultError(
            LocalFault.UNSUPPORTED, f"requests to {provider} cannot be observed; use 'openai/...' with api_base"
        )


def arguments(
    spec: ModelSpecOnWire, provider: str, prompt: Prompt, passage: Passage, *, all_messages: bool = False
) -> dict[str, Any]:
    """Arguments for `litellm.acompletion`, or for `litellm.aresponses` where the spec wants that API.

    Args:
        spec: Which model to ask, and how.
        provider: litellm's name of its provider.
        prompt: What to ask.
        passage: The key to ask with.
        all_messages: Whether to send messages that a stored response stands for.
    """
    prompt = for_model(prompt, spec.name, provider)
    asked = {
        "tools": prompt.tools,
        "tool_choice": prompt.tool_choice,
        "response_format": prompt.response_format,
        "api_base": spec.api_base,
        "api_key": passage.api_key,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    parameters = _for_gateway(spec.name, {**spec.extra_params, **given})
    if parameters.get("stream"):  # else the provider does not say what a streamed answer took
        parameters.setdefault("stream_options", {"include_usage": True})
    parameters = tool_parameters(provider, parameters, responses_api=spec.responses_api)
    if tools := parameters.get("tools"):
        parameters["tools"] = tools_for(tools, provider, spec.name)
    if spec.responses_api:
        name = spec.name.removeprefix(f"{provider}/").removeprefix("responses/")
        request = {
            "model": f"{provider}/{name}",
            "messages": for_responses(prompt.messages),
            **parameters,
            **FIXED_ARGUMENTS,
        }
        _check_logprobs(name, provider, parameters)
        background = {"background": True} if spec.background else {}
        return {**to_responses(request, provider, all_messages=all_messages), **background}
    messages = without_empty_calls(for_provider(prompt.messages, provider, spec.name))
    return {"model": spec.name, "messages": messages, **parameters, **FIXED_ARGUMENTS}


def _check_logprobs(model: str, provider: str, parameters: Mapping[str, Any]) -> None:
    """Refuse what litellm refuses on chat; on the way to the Responses API it looks at no model's abilities.

    Raises:
        LocalFaultError: the model is known to give no log probabilities.
    """
    taken = litellm.get_supported_openai_params(model=model, custom_llm_provider=provider)
    refused = [name for name in _LOGPROBS if parameters.get(name) and taken and name not in taken]
    if refused:
        text = f"{' and '.join(refused)}: {model} gives no log probabilities; leave them out of this spec"
        raise LocalFaultError(LocalFault.UNSUPPORTED, text)


def choices_asked(spec: ModelSpecOnWire) -> int:
    """How many choices the spec asks for."""
    asked = spec.extra_params.get("n")
    return asked if isinstance(asked, int) else 1


def _for_gateway(model: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """OpenRouter takes the effort inside its own `reasoning` object; litellm drops it at the top level."""
    if not model.startswith("openrouter/") or "reasoning_effort" not in parameters:
        return parameters
    rest = {name: value for name, value in parameters.items() if name != "reasoning_effort"}
    body = dict(rest.get("extra_body") or {})
    body["reasoning"] = {"effort": parameters["reasoning_effort"], **(body.get("reasoning") or {})}
    return {**rest, "extra_body": body}
