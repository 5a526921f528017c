"""Growing pauses for loops that try until something answers."""

import asyncio


class Backoff:
    """The pauses between the tries of one loop.

    Args:
        first_s: Seconds of the first pause.
        longest_s: Upper bound of every pause.
        factor: By how much each pause is longer than the one before.
    """

    def __init__(self, first_s: float, longest_s: float, factor: float = 2.0) -> None:
        self._next_s = first_s
        self._longest_s = longest_s
        self._factor = factor

    async def pause(self, at_least_s: float = 0.0) -> None:
        """Sleep, for `at_least_s` seconds or more, and make the next pause longer."""
        await asyncio.sleep(max(self._next_s, at_least_s))
        self._next_s = min(self._next_s * self._factor, self._longest_s)
