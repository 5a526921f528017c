"""Fetch from the store what was too large for Temporal."""

import logging
from typing import TypeVar

from temporalio.converter import DataConverter

from durable_llm.contract.content import ContentReference
from durable_llm.contract.wire import Wire
from durable_llm.errors import DispatcherUnavailableError, InvalidRequestError
from durable_llm.store import STORE_VARIABLE, Store, StoreError, retry_while_unavailable
from durable_llm.store.content import from_content, get_content

logger = logging.getLogger("durable_llm")

_T = TypeVar("_T", bound=Wire)


async def fetch(store: Store | None, converter: DataConverter, reference: ContentReference, kind: type[_T]) -> _T:
    """The content that `reference` names, awaited while the store does not answer.

    Raises:
        InvalidRequestError: this process has no store.
        DispatcherUnavailableError: the store cannot give it.
    """
    what = kind.__name__.lower()
    if store is None:
        raise InvalidRequestError(f"the {what} of the call is in a store; set {STORE_VARIABLE} as the workers do")
    try:
        content = await retry_while_unavailable(
            lambda: get_content(store, reference),
            on_failure=lambda error: logger.warning("the %s of a call waits for the store: %s", what, error),
        )
    except StoreError as error:
        raise DispatcherUnavailableError(f"the {what} of the call cannot be fetched: {error}") from None
    return await from_content(converter, content, kind)
