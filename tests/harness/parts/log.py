"""The lines that a run prints, each with the seconds since its start."""

import time
from collections.abc import Callable


class Log:
    """Prints lines with the time since it was made."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line with the time."""
        self._show(f"{time.monotonic() - self._began:5.1f} s  {text}")
