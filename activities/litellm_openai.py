"""What litellm does with a chat completion on OpenAI's wire, without its wrappers: mapping, reading, errors.

litellm's entry point, its success log and the OpenAI SDK take two thirds of an attempt's CPU time and change nothing in
what is sent. A test sends requests both ways and compares them.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx

from .litellm_setup import litellm  # isort: skip  # sets litellm up before anything else is imported from it

from litellm.litellm_core_utils.exception_mapping_utils import exception_type
from litellm.litellm_core_utils.llm_response_utils.convert_dict_to_response import convert_to_model_response_object
from litellm.llms.custom_httpx.http_handler import get_async_httpx_client
from litellm.llms.openai.common_utils import OpenAIError
from litellm.main import responses_api_bridge_check
from litellm.types.utils import LlmProviders
from litellm.utils import (
    ProviderConfigManager,
    get_optional_params,
    validate_and_fix_openai_messages,
    validate_and_fix_openai_tools,
    validate_chat_completion_tool_choice,
    validate_openai_optional_params,
)

_OPENAI: Final = "openai"


async def chat_body(
    model: str, messages: list[dict[str, Any]], parameters: Mapping[str, Any], api_base: str | None
) -> dict[str, Any] | None:
    """The body that litellm sends. None: it asks this model by the Responses API.

    Args:
        model: The provider's name of the model.
        messages: In OpenAI's format.
        parameters: OpenAI's parameters.
        api_base: The address. None: OpenAI's own.

    Raises:
        Exception: a class of litellm's: a parameter is refused.
    """
    tools = validate_and_fix_openai_tools(tools=parameters.get("tools"))
    bridge, _ = responses_api_bridge_check(
        model=model, custom_llm_provider=_OPENAI, tools=tools, reasoning_effort=parameters.get("reasoning_effort"),
        api_base=api_base,
    )  # fmt: skip
    if bridge.get("mode") == "responses":
        return None
    choice = validate_chat_completion_tool_choice(tool_choice=parameters.get("tool_choice"), model=model)
    stop = validate_openai_optional_params(stop=parameters.get("stop"))
    config: Any = ProviderConfigManager.get_provider_chat_config(model=model, provider=LlmProviders(_OPENAI))
    copied = config.translate_developer_role_to_system_role(
        messages=validate_and_fix_openai_messages(messages=messages).copy()
    )
    mapped = {**parameters, "tools": tools, "tool_choice": choice, "stop": stop}
    optional = get_optional_params(model=model, custom_llm_provider=_OPENAI, messages=copied, **mapped)
    optional = {name: value for name, value in optional.items() if name not in ("stream", "max_retries")}
    body: dict[str, Any] = await config.async_transform_request(
        model=model, messages=copied, optional_params=optional, litellm_params={}, headers={}
    )
    extra = body.pop("extra_body", None) or {}
    return {**body, **extra}


async def ask(request: httpx.Request, model: str) -> Any:
    """Send the request through litellm's client and return its chat completion.

    Raises:
        Exception: a class of litellm's, as its entry point raises it.
    """
    config: Any = ProviderConfigManager.get_provider_chat_config(model=model, provider=LlmProviders(_OPENAI))
    return await _send(
        request,
        model,
        lambda response: convert_to_model_response_object(
            response_object=config.transform_parsed_response_dict(response.json()),
            model_response_object=litellm.ModelResponse(),
        ),
    )


async def ask_for_embeddings(request: httpx.Request, model: str) -> None:
    """Send the request through litellm's client. The attempt's record has the response, which nobody parses here.

    Raises:
        Exception: a class of litellm's, as its entry point raises it.
    """
    await _send(request, model, lambda _: None)


async def _send(request: httpx.Request, model: str, read: Callable[[httpx.Response], Any]) -> Any:
    try:
        client: httpx.AsyncClient = get_async_httpx_client(llm_provider=LlmProviders(_OPENAI)).client
        response = await client.send(request, follow_redirects=False)
        if not response.is_success:
            raise _error_of(response)
        return read(response)
    except httpx.RequestError as error:
        raise _as_litellm(OpenAIError(status_code=500, message="Connection error."), model) from error
    except Exception as error:
        status, text = getattr(error, "status_code", 500), getattr(error, "message", str(error))
        headers, body = getattr(error, "headers", None), getattr(error, "body", None)
        raise _as_litellm(OpenAIError(status, text, headers=headers, body=body), model) from error


def _error_of(response: httpx.Response) -> OpenAIError:
    """The error that litellm makes of the OpenAI SDK's."""
    try:
        value = response.json()
    except ValueError:
        value = response.text
    body = value.get("error", value) if isinstance(value, Mapping) else value
    message = f"Error code: {response.status_code} - {value}" if value else f"Error code: {response.status_code}"
    return OpenAIError(status_code=response.status_code, message=message, headers=response.headers, body=body)


def _as_litellm(error: Exception, model: str) -> Exception:
    try:
        exception_type(
            model=model, custom_llm_provider=_OPENAI, original_exception=error, completion_kwargs={}, extra_kwargs={}
        )
    except Exception as mapped:
        return mapped
    return error
