"""litellm, set up for a worker. It is imported here first.

By default litellm fetches a price list over HTTP, prints to stdout at each error, sends telemetry and queues requests
behind a connection limit. Each setting here switches one of these off. litellm reads some of them only during its
import, so they stand before it.
"""

import logging
import os
import sys
import types
import warnings
from typing import Any, Final

# litellm ships the same price list. Fetching it delays the start, and fails without internet access.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ["LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS"] = (
    "True"  # the same holds for its list of headers, which it fetches during an attempt
)
# litellm fetches images and files for providers that cannot: a caller could make the worker request any address.
os.environ["MAX_IMAGE_URL_DOWNLOAD_SIZE_MB"] = "0"
os.environ.setdefault("LITELLM_MODE", "PRODUCTION")  # anything else reads .env files into the worker's environment
# With litellm's limits (1,000 connections, 500 per host) attempts would wait inside their own timeout. The worker's
# slots are the limit. 0 means aiohttp's default: 100 in all, no limit per host.
os.environ.setdefault("AIOHTTP_CONNECTOR_LIMIT", "100000")
os.environ.setdefault("AIOHTTP_CONNECTOR_LIMIT_PER_HOST", "0")

import litellm  # reads the variables above
from litellm.litellm_core_utils.prompt_templates.factory import THOUGHT_SIGNATURE_SEPARATOR as THOUGHT_SEPARATOR
from litellm.litellm_core_utils.url_utils import SSRFError
from litellm.llms.custom_httpx.aiohttp_transport import LiteLLMAiohttpTransport
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler, http2_enabled
from litellm.types.llms.openai import ResponsesAPIOptionalRequestParams

from durable_llm.contract.facts import LocalFault

from .faults import LocalFaultError


class _NoGateway:
    """Replaces litellm's MCP gateway, which a worker does not run."""

    @staticmethod
    def should_use_litellm_mcp_gateway(tools: Any) -> bool:  # noqa: ARG004  # litellm's signature
        """Always False."""
        return False


# For the Responses API litellm imports its gateway, just to find that it is not used. The gateway needs the package
# `mcp`.
_gateway = types.ModuleType("litellm.responses.mcp.litellm_proxy_mcp_handler")
_gateway.__dict__["LiteLLM_Proxy_MCP_Handler"] = _NoGateway
sys.modules[_gateway.__name__] = _gateway

# litellm logs two lines per request. With OPENAI_LOG and LITELLM_LOG the libraries log prompts, headers and addresses
# with keys, regardless of the worker's log level.
# Their warnings quote what a provider sent: a finish reason, a header.
for _talker in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy", "openai", "httpx", "httpcore", "aiohttp"):
    logging.getLogger(_talker).setLevel(logging.ERROR)
# These warnings quote what a provider sent, and they go to the worker's stderr.
warnings.filterwarnings("ignore", message="Pydantic serializer warnings")
litellm.suppress_debug_info = True
litellm.telemetry = False
litellm.drop_params = False  # the caller should see that a model does not take a parameter
litellm.num_retries = 0
litellm.disable_end_user_cost_tracking = True

__all__ = [
    "FIXED_ARGUMENTS",
    "RESPONSES_PARAMETERS",
    "THOUGHT_SEPARATOR",
    "AsyncHTTPHandler",
    "LiteLLMAiohttpTransport",
    "SSRFError",
    "http2_enabled",
    "litellm",
    "price",
    "price_of_tokens",
    "provider_of",
    "vector_size",
]

FIXED_ARGUMENTS: Final[dict[str, Any]] = {
    # Only the workflow retries. By default OpenAI's client sends three requests.
    "max_retries": 0,
    "num_retries": 0,
    # One number for all: litellm opens new connections for each new timeout. The attempt has its own timeout.
    "timeout": 86_400.0,
    # Otherwise litellm searches the tools for those of its gateway. That needs the package `mcp`, and litellm would
    # call such a tool and ask the model again.
    "_skip_mcp_handler": True,
    # Nobody reads litellm's log. Without this it still builds a record of each call, a fifth of its time.
    "no-log": True,
}
"""Arguments of every call of litellm."""


RESPONSES_PARAMETERS: Final = frozenset(ResponsesAPIOptionalRequestParams.__annotations__)
"""Parameters that litellm passes on to the Responses API. It drops others, unless they are in `extra_body`."""


def provider_of(model: str, api_base: str | None) -> str:
    """Return litellm's name of the provider that serves `model`.

    Raises:
        LocalFaultError: litellm does not know the provider; says how to write a model.
    """
    try:
        _, provider, _, _ = litellm.get_llm_provider(model=model, api_base=api_base)
    except Exception:  # BadRequestError, or any error in the lookup of a strange name
        text = f"no provider is known for the model {model!r}; write 'provider/model'"
        raise LocalFaultError(LocalFault.UNKNOWN_PROVIDER, text) from None
    return str(provider)


def price(response: Any, model: str) -> float | None:
    """Cost of `response` in USD. None: litellm has no price for its model."""
    if getattr(response, "usage", None) is None or not response.usage.total_tokens:
        return None
    cost = response._hidden_params.get("response_cost")
    if cost is None:
        try:
            cost = litellm.completion_cost(completion_response=response, model=model)
        except Exception:  # a model without a price: several exception classes
            return None
    # litellm prices unknown models at 0.0. Only an entry in its list means that a model is free.
    return float(cost) if cost or _is_listed(model, str(response.model)) else None


def price_of_tokens(model: str, prompt_tokens: int, completion_tokens: int) -> float | None:
    """Cost of so many tokens in USD. None: litellm has no price for the model."""
    try:
        both = litellm.cost_per_token(model=model, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)
    except Exception:  # a model without a price: several exception classes
        return None
    return float(sum(both)) if sum(both) or _is_listed(model) else None


def vector_size(model: str) -> int | None:
    """Length of the vectors of an embedding model. None: litellm's list does not say."""
    entry = litellm.model_cost.get(model) or litellm.model_cost.get(model.partition("/")[2]) or {}
    size = entry.get("output_vector_size")
    return int(size) if size else None


def _is_listed(*names: str) -> bool:
    return any(name in litellm.model_cost or name.partition("/")[2] in litellm.model_cost for name in names)
