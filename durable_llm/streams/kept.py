"""Streams outside of Temporal, over any driver: batches encrypted like payloads, no event of a call's history."""

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Final, Protocol

from google.protobuf.message import DecodeError
from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.converter import DataConverter

from durable_llm.contract.stream import Batch
from durable_llm.streams.channel import Place

COLLECT_S: Final = 0.05


class Driver(Protocol):
    """Lines of streams, in one kind of place. All methods raise OSError where the place does not answer."""

    @property
    def place(self) -> str:
        """The address without credentials."""
        ...

    async def append(self, stream: str, attempt: int, number: int, line: bytes) -> None:
        """Add the line of this number to an attempt, unless it has it already."""
        ...

    async def read(self, stream: str, after: Place, wait_s: float) -> Sequence[tuple[Place, bytes]]:
        """The lines after a place, each with its own, in order. If there are none yet, wait for some."""
        ...

    async def sweep(self, before: datetime) -> int:
        """Delete streams that were last written to before `before`. Returns how many, as far as that is known."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class KeptStreams:
    """All streams in one driver's place.

    Args:
        driver: Keeps the lines.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.place = driver.place

    def channel(self, client: Client, workflow_id: str, run_id: str) -> "KeptChannel":
        """See `Streams`."""
        name = hashlib.sha256(f"{client.namespace}\n{workflow_id}\n{run_id}".encode()).hexdigest()
        return KeptChannel(self._driver, client.data_converter, name)

    async def sweep(self, before: datetime) -> int:
        """See `Streams`."""
        return await self._driver.sweep(before)

    async def close(self) -> None:
        """See `Streams`."""
        await self._driver.close()


class KeptChannel:
    """One call's stream.

    Args:
        driver: Keeps the lines.
        converter: Encodes the batches.
        name: The stream's name: a SHA-256 in 64 hexadecimal digits.
    """

    max_bytes = 8_000_000

    def __init__(self, driver: Driver, converter: DataConverter, name: str) -> None:
        self._driver = driver
        self._converter = converter
        self._name = name

    def collect_s(self, published: int) -> float:
        """See `Channel`."""
        del published
        return COLLECT_S

    async def append(self, attempt: int, number: int, batch: Batch) -> None:
        """See `Channel`."""
        [payload] = await self._converter.encode([batch])
        await self._driver.append(self._name, attempt, number, base64.b64encode(payload.SerializeToString()))

    async def read(self, after: Place, wait_s: float) -> tuple[Sequence[Batch], Place]:
        """See `Channel`."""
        lines = await self._driver.read(self._name, after, wait_s)
        if not lines:
            return [], after
        behind = max(place for place, _ in lines)
        try:
            newest = [Payload.FromString(base64.b64decode(line)) for place, line in lines if place[0] == behind[0]]
            return await self._converter.decode(newest, [Batch] * len(newest)), behind
        except (ValueError, DecodeError) as error:
            raise OSError(f"{self._driver.place} holds no batch: {type(error).__name__}") from None
