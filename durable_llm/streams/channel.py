"""Streams over any driver: batches of an attempt, encrypted like payloads."""

import asyncio
import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from google.protobuf.message import DecodeError
from temporalio.api.common.v1 import Payload
from temporalio.converter import DataConverter

from durable_llm.contract.stream import Batch


class Driver(Protocol):
    """Lines of attempts of streams, in one kind of place. The methods block; they run in threads, several at once.

    They raise OSError where the place does not answer.
    """

    @property
    def place(self) -> str:
        """The address without credentials."""
        ...

    def append(self, stream: str, attempt: int, line: bytes) -> None:
        """Add a line to an attempt."""
        ...

    def attempts(self, stream: str) -> Sequence[int]:
        """The numbers of the attempts that have lines, in order."""
        ...

    def read(self, stream: str, attempt: int, position: int) -> tuple[Sequence[bytes], int]:
        """The lines of an attempt beyond a position, and the position after them; the first is 0."""
        ...

    def sweep(self, before: datetime) -> int:
        """Delete streams that were last written to before `before`. Returns how many."""
        ...


def stream_name(namespace: str, workflow_id: str, run_id: str) -> str:
    """The name of a call's stream. A call that is run again has another."""
    return hashlib.sha256(f"{namespace}\n{workflow_id}\n{run_id}".encode()).hexdigest()


class Streams:
    """All streams in one place.

    Args:
        driver: Keeps the lines.
    """

    def __init__(self, driver: Driver) -> None:
        self.driver = driver

    def channel(self, converter: DataConverter, name: str) -> "Channel":
        """The stream of this name, its batches encoded by a client's converter."""
        return Channel(self.driver, converter, name)

    async def sweep(self, before: datetime) -> int:
        """Delete streams that were last written to before `before`. Returns how many."""
        return await asyncio.to_thread(self.driver.sweep, before)


class Channel:
    """One call's stream."""

    def __init__(self, driver: Driver, converter: DataConverter, name: str) -> None:
        self._driver = driver
        self._converter = converter
        self._name = name

    async def append(self, attempt: int, batch: Batch) -> int:
        """Publish a batch of an attempt. Returns its size in bytes.

        Raises:
            OSError: the place does not answer.
        """
        [payload] = await self._converter.encode([batch])
        line = base64.b64encode(payload.SerializeToString())
        await asyncio.to_thread(self._driver.append, self._name, attempt, line)
        return len(line)

    async def attempts(self) -> Sequence[int]:
        """The numbers of the attempts that have published something, in order.

        Raises:
            OSError: the place does not answer.
        """
        return await asyncio.to_thread(self._driver.attempts, self._name)

    async def read(self, attempt: int, position: int) -> tuple[list[Batch], int]:
        """The batches of an attempt beyond a position, and the position after them; the first is 0.

        Raises:
            OSError: the place does not answer, or what it has is not ours.
            DecryptionError: this process lacks their key.
        """
        lines, after = await asyncio.to_thread(self._driver.read, self._name, attempt, position)
        try:
            payloads = [Payload.FromString(base64.b64decode(line)) for line in lines]
            return list(await self._converter.decode(payloads, [Batch] * len(payloads))) if payloads else [], after
        except (ValueError, DecodeError) as error:
            raise OSError(f"{self._driver.place} holds no batch: {type(error).__name__}") from None
