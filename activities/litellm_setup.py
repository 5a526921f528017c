"""litellm, imported once and set up for a worker: the only module that imports it.

Imported anyhow, litellm fetches a price list over HTTP, prints to stdout at each error, sends telemetry and queues the
requests of a busy worker behind a connection limit. Each setting here switches one of those off; some are read only
while litellm is imported, so they stand before the import.
"""

import logging
import os
import sys
import types
import warnings
from typing import Any, Final

# litellm ships the same price list; fetching it delays the start and fails where there is no way out.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ["LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS"] = "True"  # so is the list of headers, in the middle of an attempt
# litellm fetches images and files for providers that do not: a caller would choose what the worker's network is asked.
os.environ["MAX_IMAGE_URL_DOWNLOAD_SIZE_MB"] = "0"
os.environ.setdefault("LITELLM_MODE", "PRODUCTION")  # anything else reads .env files into the worker's environment
# litellm's limits (1,000 connections, 500 a host) would queue attempts inside their own timeout; the worker's number of
# slots is the limit. 0 leaves aiohttp's own default: 100 in all, unlimited for a host.
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
    """Stands in for litellm's tool gateway, which no worker is."""

    @staticmethod
    def should_use_litellm_mcp_gateway(tools: Any) -> bool:  # noqa: ARG004  # litellm's signature
        """Answer no."""
        return False


# On its way to the Responses API litellm imports its gateway, only to learn that it is not wanted; the gateway would
# need the package `mcp`.
_gateway = types.ModuleType("litellm.responses.mcp.litellm_proxy_mcp_handler")
_gateway.__dict__["LiteLLM_Proxy_MCP_Handler"] = _NoGateway
sys.modules[_gateway.__name__] = _gateway

# LiteLLM writes two lines for each request; OPENAI_LOG and LITELLM_LOG make all of them write prompts, headers, and
# addresses with keys in them, whatever the worker's own log level is.
for _talker in ("LiteLLM", "openai", "httpx"):
    logging.getLogger(_talker).setLevel(logging.WARNING)
# What a provider sent in the place of something else is quoted there, and warnings go to the worker's stderr.
warnings.filterwarnings("ignore", message="Pydantic serializer warnings")
litellm.suppress_debug_info = True
litellm.telemetry = False
litellm.drop_params = False  # a parameter that a model cannot take is a failure that the caller should see
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
    "provider_of",
]

FIXED_ARGUMENTS: Final[dict[str, Any]] = {
    # Retries have one owner, the call's workflow. Unset, OpenAI's client sends three requests.
    "max_retries": 0,
    "num_retries": 0,
    # One number for all: litellm opens new connections for each timeout that it has not seen. What ends an attempt is
    # its own deadline.
    "timeout": 86_400.0,
    # Else litellm looks through the tools for those of its own gateway, which takes the package `mcp` and, where it
    # finds one, calls it and asks the model again.
    "_skip_mcp_handler": True,
    # Nothing of ours listens to litellm's log; without this it still builds a record of each call, a fifth of its time.
    "no-log": True,
}
"""Passed with every call of litellm."""


RESPONSES_PARAMETERS: Final = frozenset(ResponsesAPIOptionalRequestParams.__annotations__)
"""What litellm passes to the Responses API by name; the rest it drops, unless it comes in `extra_body`."""


def provider_of(model: str, api_base: str | None) -> str:
    """Return litellm's name of the provider that serves `model`.

    Raises:
        LocalFaultError: litellm knows no such provider; says how a model is written.
    """
    try:
        _, provider, _, _ = litellm.get_llm_provider(model=model, api_base=api_base)
    except Exception:  # BadRequestError, or whatever the lookup of a strange name runs into
        text = f"no provider is known for the model {model!r}; write 'provider/model'"
        raise LocalFaultError(LocalFault.UNKNOWN_PROVIDER, text) from None
    return str(provider)


def price(response: Any, model: str) -> float | None:
    """What `response` cost in USD; None when litellm has no price for its model."""
    if getattr(response, "usage", None) is None or not response.usage.total_tokens:
        return None
    cost = response._hidden_params.get("response_cost")
    if cost is None:
        try:
            cost = litellm.completion_cost(completion_response=response, model=model)
        except Exception:  # a model without a price: several exception classes
            return None
    # litellm prices what it does not know at 0.0; an entry in its list says that a model is free indeed.
    return float(cost) if cost or _is_listed(model, str(response.model)) else None


def _is_listed(*names: str) -> bool:
    return any(name in litellm.model_cost or name.partition("/")[2] in litellm.model_cost for name in names)
