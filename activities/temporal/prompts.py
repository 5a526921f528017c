"""Find an attempt's prompt: beside its order, in the call's history, or in the store of large prompts."""

import asyncio
from collections.abc import Awaitable
from typing import Final

from temporalio import activity
from temporalio.converter import DataConverter

from durable_llm.contract.content import ContentReference
from durable_llm.contract.facts import LocalFault
from durable_llm.contract.request import Prompt
from durable_llm.errors import DecryptionError
from durable_llm.store import (
    STORE_VARIABLE,
    ContentCorruptError,
    ContentMissingError,
    Store,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
    retry_while_unavailable,
)
from durable_llm.store.content import from_content, get_content

from ..faults import LocalFaultError
from .server import Server

_STORE_SHARE: Final = 0.5
"""Part of an attempt's time for the store. The rest is for the provider."""


class Prompts:
    """Finds prompts for one worker's attempts.

    Args:
        server: The Temporal server.
        store: The store of large prompts. None: this worker has none.
        converter: Decodes prompts. None: the converter of the worker's client.
    """

    def __init__(self, server: Server, store: Store | None, converter: DataConverter | None = None) -> None:
        self._server = server
        self._store = store
        self._converter = converter

    async def find(self, given: Prompt | ContentReference | None, timeout_s: float) -> Prompt:
        """The attempt's prompt.

        Args:
            given: The prompt beside the order. None: it is in the history.
            timeout_s: Seconds for the whole attempt.

        Raises:
            LocalFaultError: the prompt is missing, unreadable or not available now.
        """
        match given:
            case Prompt():
                return given
            case ContentReference():
                return await self._stored(given, timeout_s * _STORE_SHARE)
            case None:
                return await self._server.prompt()

    async def of_call(self, call_id: str, run_id: str, timeout_s: float) -> Prompt:
        """The prompt of another call than the running activity's.

        Raises:
            LocalFaultError: as `find`.
        """
        return await self.find(await self._server.prompt_of(call_id, run_id), timeout_s)

    async def _stored(self, reference: ContentReference, within_s: float) -> Prompt:
        store = self._store
        if store is None:
            raise _unreadable(f"the prompt is in a store and this worker has none; set {STORE_VARIABLE} as clients do")
        try:
            content = await _in_time(store, reference, within_s)
        except StoreUnavailableError as error:
            raise LocalFaultError(LocalFault.STORE_UNAVAILABLE, str(error)) from None
        except StoreError as error:
            raise _unreadable(f"{error}; {_advice(error)}") from None
        try:
            return await from_content(self._converter or activity.client().data_converter, content, Prompt)
        except DecryptionError as error:
            raise LocalFaultError(LocalFault.UNDECIPHERED, error.message) from None
        except Exception as error:  # codecs and converters raise anything
            raise _unreadable(
                f"the prompt in {store.place} cannot be decoded ({type(error).__name__}); client and worker need the "
                "same data converter and keys"
            ) from None


async def _in_time(store: Store, reference: ContentReference, within_s: float) -> bytes:
    """The content, with retries while the store does not answer.

    Raises:
        StoreUnavailableError: the store did not answer within `within_s`.
        StoreError: a retry does not help.
    """
    told = [StoreUnavailableError(f"{store.place} did not answer")]
    try:
        async with asyncio.timeout(within_s):
            transfer: Awaitable[bytes] = retry_while_unavailable(
                lambda: get_content(store, reference), on_failure=told.append
            )
            return await transfer
    except TimeoutError:
        raise StoreUnavailableError(f"{told[-1]}; tried for {within_s:g} s") from None


def _advice(error: StoreError) -> str:
    """What to check if a retry does not help."""
    match error:
        case StoreRefusedError():
            return f"check {STORE_VARIABLE} of this worker and what it may read there"
        case ContentMissingError():
            return f"check that {STORE_VARIABLE} names the client's store, and how long that keeps prompts"
        case ContentCorruptError():
            return "submit the call again under another id"
    return f"check {STORE_VARIABLE}"


def _unreadable(text: str) -> LocalFaultError:
    return LocalFaultError(LocalFault.PROMPT_UNREADABLE, text)
