"""Attributes of an attempt after the GenAI conventions, from its order and its outcome.

Pure: this one place shows what may leave the process. No text does, not even a provider's error message: it may repeat
the prompt, and the ledger has it.
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from durable_llm.contract.categories import Outcome
from durable_llm.contract.config import ModelSpecOnWire
from durable_llm.contract.facts import FailureFacts
from durable_llm.contract.ledger import Usage
from durable_llm.contract.request import AttemptOrder
from durable_llm.contract.result import Answer

from .names import Attribute

Value = str | int | float | bool | list[str]
Attributes = dict[str, Value]

_PROVIDERS: Final[Mapping[str, str]] = {
    "azure": "azure.ai.openai", "azure_text": "azure.ai.openai", "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock", "bedrock_converse": "aws.bedrock", "cohere_chat": "cohere", "gemini": "gcp.gemini",
    "mistral": "mistral_ai", "text-completion-openai": "openai", "vertex_ai": "gcp.vertex_ai",
    "vertex_ai_beta": "gcp.vertex_ai", "watsonx": "ibm.watsonx.ai", "watsonx_text": "ibm.watsonx.ai", "xai": "x_ai",
}  # fmt: skip
"""litellm's name to the conventions' name, where they differ."""

_PARAMETERS: Final = {
    "max_tokens": Attribute.MAX_TOKENS, "max_completion_tokens": Attribute.MAX_TOKENS,
    "temperature": Attribute.TEMPERATURE, "top_p": Attribute.TOP_P,
}  # fmt: skip


def provider_name(provider: str) -> str:
    """The conventions' name for litellm's `provider`."""
    return _PROVIDERS.get(provider, provider)


def request_model(name: str) -> str:
    """The requested model: litellm's "provider/model" without the provider."""
    return name.partition("/")[2] or name


def order_attributes(order: AttemptOrder, call_id: str) -> Attributes:
    """Attributes that are known before the attempt starts."""
    return {
        Attribute.OPERATION: order.operation,
        Attribute.CALL_ID: call_id,
        Attribute.NUMBER: order.number,
        Attribute.TRY: order.try_number,
        **spec_attributes(order.spec),
        **_previous_attributes(order),
    }


def spec_attributes(spec: ModelSpecOnWire) -> Attributes:
    """The requested model, its address and its parameters."""
    prefix, slash, _ = spec.name.partition("/")
    parameters: Attributes = {
        name: value
        for parameter, name in _PARAMETERS.items()
        if isinstance(value := spec.extra_params.get(parameter), int | float)
    }
    return {
        Attribute.MODEL: spec.name,
        Attribute.REQUEST_MODEL: request_model(spec.name),
        **({Attribute.PROVIDER: provider_name(prefix)} if slash else {}),
        **(address_attributes(spec.api_base) if spec.api_base else {}),
        **parameters,
    }


def _previous_attributes(order: AttemptOrder) -> Attributes:
    previous = order.previous
    return _known({
        Attribute.PREVIOUS_CATEGORY: previous.category if previous else None,
        Attribute.PREVIOUS_DECISION: previous.decision if previous else None,
    })  # fmt: skip


def address_attributes(address: str) -> Attributes:
    """Host and port of a URL or of "host:port". {} if it is neither."""
    try:
        parts = urlsplit(address if "//" in address else f"https://{address}")
        port = parts.port or (80 if parts.scheme == "http" else 443)
    except ValueError:
        return {}
    return {Attribute.SERVER_ADDRESS: parts.hostname, Attribute.SERVER_PORT: port} if parts.hostname else {}


def answer_attributes(answer: Answer) -> Attributes:
    """Attributes of an answer."""
    return _known({
        Attribute.OUTCOME: Outcome.ANSWERED.value,
        Attribute.RESPONSE_MODEL: answer.model,
        Attribute.RESPONSE_ID: answer.response_id,
        Attribute.FINISH_REASONS: [choice.finish_reason or "" for choice in answer.choices],
        Attribute.HTTP_STATUS: answer.http_status,
        Attribute.REQUEST_ID: answer.request_id,
        Attribute.COST: answer.cost,
        **_usage_attributes(answer.usage),
    })  # fmt: skip


def failure_attributes(facts: FailureFacts, category: str) -> Attributes:
    """Attributes of a failure, without its text."""
    return _known({
        Attribute.OUTCOME: str(facts.outcome),
        Attribute.ERROR_TYPE: str(category),
        Attribute.ERROR_CODE: facts.error_code,
        Attribute.HTTP_STATUS: facts.http_status,
        Attribute.REQUEST_ID: facts.request_id,
        Attribute.COST: facts.billed,
        **_usage_attributes(facts.usage),
    })  # fmt: skip


def _usage_attributes(usage: Usage | None) -> dict[str, int | None]:
    if usage is None:
        return {}
    return {
        Attribute.INPUT_TOKENS: usage.prompt_tokens,
        Attribute.OUTPUT_TOKENS: usage.completion_tokens,
        Attribute.CACHE_READ_TOKENS: usage.cache_read_tokens or None,
        Attribute.CACHE_CREATION_TOKENS: usage.cache_creation_tokens or None,
    }


def _known(values: Mapping[str, Value | None]) -> Attributes:
    return {name: value for name, value in values.items() if value is not None}
