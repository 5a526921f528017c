"""What a kind of store must be able to do; everything else is `Store`'s."""

from datetime import datetime
from typing import Protocol


class Driver(Protocol):
    """Bytes under names. Its methods block and are called in threads, several at a time.

    They raise StoreUnavailableError where trying again may help and StoreRefusedError where it does not.
    """

    @property
    def place(self) -> str:
        """The store's address as it may be shown: without credentials."""
        ...

    def put(self, name: str, content: bytes) -> None:
        """Keep `content` under `name`, whole or not at all, as if it were new: its age begins again."""
        ...

    def get(self, name: str) -> bytes:
        """What was kept under `name`.

        Raises:
            ContentMissingError: nothing was.
        """
        ...

    def sweep(self, before: datetime) -> int:
        """Delete what was last put before `before`; how many that were."""
        ...
