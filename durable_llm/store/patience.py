"""Trying again while a store does not answer."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from durable_llm.backoff import Backoff
from durable_llm.store.errors import StoreUnavailableError

_T = TypeVar("_T")


async def patiently(
    transfer: Callable[[], Awaitable[_T]], *, on_failure: Callable[[StoreUnavailableError], None]
) -> _T:
    """What `transfer` returns, tried again with growing pauses; the caller limits the time.

    Args:
        transfer: One try.
        on_failure: Gets the error of each try that failed.

    Raises:
        StoreError: trying again would not help.
    """
    backoff = Backoff(first_s=0.2, longest_s=10.0)
    while True:
        try:
            return await transfer()
        except StoreUnavailableError as error:
            on_failure(error)
        await backoff.pause()
