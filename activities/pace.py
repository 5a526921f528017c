"""The two clocks of a streamed answer: until its first piece, and from one piece to the next."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any, Final, TypeVar

from .faults import TokenTimeoutError
from .request.provider_request import ProviderRequest

SILENCE_S: Final = 240.0
"""Seconds between two pieces of a stream where the spec does not say. Models that think between two pieces are silent
for up to three minutes."""

_T = TypeVar("_T")


class Pace:
    """Watches over one response. The first clock starts now. What is not streamed has no pieces, and no clocks.

    Args:
        request: The request; its spec has the clocks, in seconds.

    Attributes:
        token_s: Seconds from one piece to the next.
    """

    def __init__(self, request: ProviderRequest) -> None:
        is_streamed = bool(request.parameters.get("stream"))
        self.token_s = request.spec.token_timeout or SILENCE_S
        self._limit_s = request.spec.first_token_timeout if is_streamed else None
        self._started = asyncio.get_running_loop().time()
        self._waits_for = "the first token"

    async def within(self, work: Awaitable[_T]) -> _T:
        """The result of `work`, before the running clock ends.

        Raises:
            TokenTimeoutError: the clock ended.
        """
        scope = asyncio.timeout_at(None if self._limit_s is None else self._started + self._limit_s)
        try:
            async with scope:
                return await work
        except TimeoutError:
            if not scope.expired():
                raise
            raise TokenTimeoutError(f"{self._waits_for} did not come within {self._limit_s:g} s") from None

    async def pieces(self, response: Any) -> AsyncIterator[Any]:
        """The chunks or events of a response.

        Raises:
            TokenTimeoutError: a clock ended.
        """
        following = aiter(response)
        while True:
            try:
                piece = await self.within(anext(following))
            except StopAsyncIteration:
                return
            if _has_token(piece):
                self._limit_s, self._waits_for = self.token_s, "the next token"
                self._started = asyncio.get_running_loop().time()
            yield piece


def _has_token(piece: Any) -> bool:
    """Whether a chunk of a chat completion, or an event of a response, brings some of the answer."""
    if hasattr(piece, "choices"):
        names = ("content", "reasoning_content", "thinking_blocks", "tool_calls")
        return any(getattr(choice.delta, name, None) for choice in piece.choices for name in names)
    return bool(getattr(piece, "delta", None))
