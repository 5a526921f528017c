"""A clock and a voice: every line of a run says when it happened."""

import time
from collections.abc import Callable


class Teller:
    """Says lines with the time since its beginning."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """One line with the time since the beginning."""
        self._show(f"{time.monotonic() - self._began:5.1f} s  {text}")
