"""What an embedding model answers: a vector for each text."""

import base64
import math
import sys
from array import array
from collections.abc import Sequence

from durable_llm.contract.content import ContentReference
from durable_llm.contract.wire import Wire


class Vectors(Wire):
    """Vectors in the order of their texts, all of one length."""

    count: int
    dimensions: int
    float32: str | None = None
    """All components, one vector after the other, as little-endian 32-bit floats in base64."""
    stored: ContentReference | None = None
    """Where the vectors are instead, if they are too large for Temporal: a `Vectors` in the store."""

    @classmethod
    def pack(cls, rows: Sequence[Sequence[float]]) -> "Vectors":
        """The vectors of these rows.

        Raises:
            ValueError: the rows differ in length, or a component is not a finite 32-bit number.
        """
        dimensions = len(rows[0]) if rows else 0
        if any(len(row) != dimensions for row in rows):
            raise ValueError(f"vectors of {min(map(len, rows))} to {max(map(len, rows))} dimensions in one answer")
        packed = array("f")
        for row in rows:
            packed.extend(row)
        if not all(map(math.isfinite, packed)):
            raise ValueError("a component is not a finite 32-bit number")
        return cls(count=len(rows), dimensions=dimensions, float32=base64.b64encode(_little(packed)).decode())

    def rows(self) -> "list[array[float]]":
        """The vectors.

        Raises:
            ValueError: they are in the store, or damaged.
        """
        if self.float32 is None:
            raise ValueError("the vectors are in the store")
        packed = array("f")
        packed.frombytes(base64.b64decode(self.float32))
        if sys.byteorder == "big":
            packed.byteswap()
        if len(packed) != self.count * self.dimensions:
            raise ValueError(f"{len(packed)} components instead of {self.count} x {self.dimensions}")
        return [packed[start : start + self.dimensions] for start in range(0, len(packed), self.dimensions or 1)]


def _little(packed: "array[float]") -> bytes:
    if sys.byteorder == "big":
        packed = packed[:]
        packed.byteswap()
    return packed.tobytes()
