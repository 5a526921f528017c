"""The search attributes that operators filter by, and how they get into a namespace.

A workflow that upserts an unregistered attribute is blocked for ever. So clients check for them when they connect,
workers when they start, and `durable-llm setup` registers them.
"""

from typing import Any

from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey

MODEL = SearchAttributeKey.for_keyword("LLMModel")
OUTCOME = SearchAttributeKey.for_keyword("LLMOutcome")
ERROR_CATEGORY = SearchAttributeKey.for_keyword("LLMErrorCategory")
SESSION = SearchAttributeKey.for_keyword("LLMSession")
ATTEMPTS = SearchAttributeKey.for_int("LLMAttempts")
COST_USD = SearchAttributeKey.for_float("LLMCostUSD")

ALL: tuple[SearchAttributeKey, ...] = (MODEL, OUTCOME, ERROR_CATEGORY, SESSION, ATTEMPTS, COST_USD)  # type: ignore[type-arg]  # keys of several value types


async def missing(client: Client) -> list[str]:
    """Names of our search attributes that `client`'s namespace lacks or has with another type, in declaration order.

    Raises:
        temporalio.service.RPCError: from the server, unchanged; PERMISSION_DENIED if only operators may ask.
    """
    listed = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace)
    )
    return [key.name for key in ALL if listed.custom_attributes.get(key.name) != int(key.indexed_value_type)]


async def register(client: Client) -> None:
    """Add our search attributes to `client`'s namespace; existing ones are left alone."""
    wanted: Any = {key.name: int(key.indexed_value_type) for key in ALL}  # the SDK's enum has the API's numbers
    await client.operator_service.add_search_attributes(
        AddSearchAttributesRequest(namespace=client.namespace, search_attributes=wanted)
    )
