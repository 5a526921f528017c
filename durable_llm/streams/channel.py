"""A call's stream: what its workers publish, and how a reader follows it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

from temporalio.client import Client

from durable_llm.contract.stream import Batch

Place = tuple[int, int]
"""Where a reader is in a stream: an attempt's number, and a place in what it published, which only the channel reads.
(attempt, 0) is the attempt's beginning."""

KEPT: Final = timedelta(hours=24)
"""How long a stream is kept after its last piece. The answer itself is in the call's history."""


class Channel(Protocol):
    """One call's stream."""

    max_bytes: int
    """Bytes of text that one attempt publishes at most. Beyond that the text comes with the result."""

    def collect_s(self, published: int) -> float | None:
        """Seconds that pieces are collected before they are published together.

        Args:
            published: Batches of this attempt so far.

        Returns:
            None: the attempt has published enough.
        """
        ...

    async def append(self, attempt: int, number: int, batch: Batch) -> None:
        """Publish a batch. It appears once, even if this is retried.

        Args:
            attempt: The attempt's number.
            number: The batch's number in its attempt, from 1.
            batch: The batch.

        Raises:
            OSError: the place does not answer.
        """
        ...

    async def read(self, after: Place, wait_s: float) -> tuple[Sequence[Batch], Place]:
        """What was published after a place, of the newest attempt only.

        Args:
            after: The place.
            wait_s: Seconds to wait if there is nothing yet.

        Returns:
            The batches, and the place behind them. If an attempt is newer than that of `after`, its batches from its
            beginning.

        Raises:
            OSError: the place does not answer, or what it has is not ours.
            DecryptionError: this process lacks their key.
        """
        ...


class Streams(Protocol):
    """The streams of all calls, in one kind of place. An object serves one event loop."""

    @property
    def place(self) -> str:
        """The place's address without credentials."""
        ...

    def channel(self, client: Client, workflow_id: str, run_id: str) -> Channel:
        """The stream of a call. A call that is run again has another."""
        ...

    async def sweep(self, before: datetime) -> int:
        """Delete streams that were last written to before `before`. Returns how many, as far as that is known.

        Raises:
            OSError: the place does not answer.
        """
        ...

    async def close(self) -> None:
        """Close connections."""
        ...
