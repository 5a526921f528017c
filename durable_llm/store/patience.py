"""Trying again, for as long as the caller lets it, while a store does not answer."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from durable_llm.store.errors import StoreUnavailableError

_T = TypeVar("_T")

_FIRST_DELAY_S: Final = 0.2
_LONGEST_DELAY_S: Final = 10.0


async def patiently(transfer: Callable[[], Awaitable[_T]], *, told: Callable[[StoreUnavailableError], None]) -> _T:
    """What `transfer` returns, tried with growing delays; the caller bounds the time.

    Args:
        transfer: One try.
        told: Is told why each try failed.

    Raises:
        StoreError: trying again would not help.
    """
    delay = _FIRST_DELAY_S
    while True:
        try:
            return await transfer()
        except StoreUnavailableError as error:
            told(error)
        await asyncio.sleep(delay)
        delay = min(delay * 2, _LONGEST_DELAY_S)
