"""What the GenAI conventions want to know of an attempt, read from its order and its outcome.

Pure: no span and no exporter, so that what may leave the process can be read in one place. Texts are not among it, not
even a provider's error message: it may repeat the prompt, and the ledger has it.
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

from .names import CHAT, Attribute

Value = str | int | float | bool | list[str]
Attributes = dict[str, Value]

_PROVIDERS: Final[Mapping[str, str]] = {
    "azure": "azure.ai.openai", "azure_text": "azure.ai.openai", "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock", "bedrock_converse": "aws.bedrock", "cohere_chat": "cohere", "gemini": "gcp.gemini",
    "mistral": "mistral_ai", "text-completion-openai": "openai", "vertex_ai": "gcp.vertex_ai",
    "vertex_ai_beta": "gcp.vertex_ai", "watsonx": "ibm.watsonx.ai", "watsonx_text": "ibm.watsonx.ai", "xai": "x_ai",
}  # fmt: skip
"""The conventions' names where they are not litellm's."""

_PARAMETERS: Final = {
    "max_tokens": Attribute.MAX_TOKENS, "max_completion_tokens": Attribute.MAX_TOKENS,
    "temperature": Attribute.TEMPERATURE, "top_p": Attribute.TOP_P,
}  # fmt: skip


def provider_name(provider: str) -> str:
    """The conventions' name of a provider that litellm calls `provider`."""
    return _PROVIDERS.get(provider, provider)


def request_model(name: str) -> str:
    """The model that is asked: litellm's "provider/model" without the provider."""
    return name.partition("/")[2] or name


def of_order(order: AttemptOrder, call_id: str) -> Attributes:
    """What is known before the attempt begins."""
    return {
        Attribute.OPERATION: CHAT,
        Attribute.CALL_ID: call_id,
        Attribute.NUMBER: order.number,
        Attribute.TRY: order.try_number,
        **of_spec(order.spec),
        **_of_previous(order),
    }


def of_spec(spec: ModelSpecOnWire) -> Attributes:
    """Which model is asked, where, and how."""
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
        **(of_address(spec.api_base) if spec.api_base else {}),
        **parameters,
    }


def _of_previous(order: AttemptOrder) -> Attributes:
    previous = order.previous
    return _known({
        Attribute.PREVIOUS_CATEGORY: previous.category if previous else None,
        Attribute.PREVIOUS_DECISION: previous.decision if previous else None,
    })  # fmt: skip


def of_address(address: str) -> Attributes:
    """Host and port of an address, or of a bare "host:port"; {} of what is none."""
    try:
        parts = urlsplit(address if "//" in address else f"https://{address}")
        port = parts.port or (80 if parts.scheme == "http" else 443)
    except ValueError:
        return {}
    return {Attribute.SERVER_ADDRESS: parts.hostname, Attribute.SERVER_PORT: port} if parts.hostname else {}


def of_answer(answer: Answer) -> Attributes:
    """What an answer says of itself."""
    return _known({
        Attribute.OUTCOME: Outcome.ANSWERED.value,
        Attribute.RESPONSE_MODEL: answer.model,
        Attribute.RESPONSE_ID: answer.response_id,
        Attribute.FINISH_REASONS: [choice.finish_reason or "" for choice in answer.choices],
        Attribute.HTTP_STATUS: answer.http_status,
        Attribute.REQUEST_ID: answer.request_id,
        Attribute.COST: answer.cost,
        **_of_usage(answer.usage),
    })  # fmt: skip


def of_failure(facts: FailureFacts, category: str) -> Attributes:
    """What the facts of a failure say; `facts.text` is none of it."""
    return _known({
        Attribute.OUTCOME: str(facts.outcome),
        Attribute.ERROR_TYPE: str(category),
        Attribute.ERROR_CODE: facts.error_code,
        Attribute.HTTP_STATUS: facts.http_status,
        Attribute.REQUEST_ID: facts.request_id,
        Attribute.COST: facts.billed,
        **_of_usage(facts.usage),
    })  # fmt: skip


def _of_usage(usage: Usage | None) -> dict[str, int | None]:
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
