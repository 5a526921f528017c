"""How many requests each token has open, and its limit."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from durable_llm.client.tokens import Token

from .access import RefusedError


class Slot:
    """The place of one request. It is free again when its response has been sent."""

    def __init__(self, counts: Counter[str], key: str) -> None:
        self._counts = counts
        self._key = key
        self.is_held = False

    async def held(self, pieces: Any) -> AsyncIterator[Any]:
        """The pieces of a streamed response, which keeps the place to its end."""
        self.is_held = True
        try:
            async for piece in pieces:
                yield piece
        finally:
            self.free()

    def free(self) -> None:
        """Give the place back."""
        self._counts[self._key] -= 1


class OpenRequests:
    """Counts the open requests of one front."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    @contextmanager
    def taken(self, caller: Token) -> Iterator[Slot]:
        """A place for one request.

        Raises:
            RefusedError: the caller's token has as many open as it may.
        """
        if caller.max_open is not None and self._counts[caller.hash] >= caller.max_open:
            raise RefusedError(
                429, f"this token may have {caller.max_open} open requests", "rate_limit_exceeded", retry_after_s=1
            )
        self._counts[caller.hash] += 1
        slot = Slot(self._counts, caller.hash)
        try:
            yield slot
        finally:
            if not slot.is_held:
                slot.free()
