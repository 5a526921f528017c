"""The search attributes that operators filter by, and how they get into a namespace.

An unregistered one in a workflow's upsert would leave the call stuck for ever, so their absence is found when a client
connects and when a worker starts, and `durable-llm setup` registers them.
"""

from temporalio.api.enums.v1 import IndexedValueType
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

_INDEXED_TYPE = {
    MODEL.name: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    OUTCOME.name: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    ERROR_CATEGORY.name: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    SESSION.name: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    ATTEMPTS.name: IndexedValueType.INDEXED_VALUE_TYPE_INT,
    COST_USD.name: IndexedValueType.INDEXED_VALUE_TYPE_DOUBLE,
}


async def missing(client: Client) -> list[str]:
    """Names of our search attributes that `client`'s namespace lacks, or has under another type, in declaration order.

    Raises temporalio.service.RPCError as the server gives it (PERMISSION_DENIED where only operators may ask).
    """
    listed = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace)
    )
    return [name for name, kind in _INDEXED_TYPE.items() if listed.custom_attributes.get(name) != kind]


async def register(client: Client) -> None:
    """Add our search attributes to `client`'s namespace; those it has already stay as they are."""
    await client.operator_service.add_search_attributes(
        AddSearchAttributesRequest(namespace=client.namespace, search_attributes=_INDEXED_TYPE)
    )
