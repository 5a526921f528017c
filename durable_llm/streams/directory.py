"""A local directory for streams: the development stack's, or a file system that clients and workers share.

A stream is a directory, an attempt is a file in it, and a batch is a line. Only the owner can read them.
"""

import asyncio
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from durable_llm.streams.channel import Place

LOOK_S: Final = 0.05
"""Seconds between two looks of a reader. They grow while nothing comes."""

LONGEST_LOOK_S: Final = 0.5

_STREAM: Final = re.compile(r"[0-9a-f]{64}")


class Directory:
    """Files in one directory, which is created if it is missing. A place is an attempt and a number of bytes.

    Args:
        root: An absolute path.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.place = root.as_uri()

    async def append(self, stream: str, attempt: int, number: int, line: bytes) -> None:
        """See `Driver`."""
        del number  # nothing is retried
        await asyncio.to_thread(self._append, self._root / stream / str(attempt), line)

    async def read(self, stream: str, after: Place, wait_s: float) -> Sequence[tuple[Place, bytes]]:
        """See `Driver`."""
        deadline = asyncio.get_running_loop().time() + wait_s
        pause_s = LOOK_S
        while True:
            lines = await asyncio.to_thread(self._lines, stream, after)
            left_s = deadline - asyncio.get_running_loop().time()
            if lines or left_s <= 0:
                return lines
            await asyncio.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 1.2, LONGEST_LOOK_S)

    async def sweep(self, before: datetime) -> int:
        """See `Driver`."""
        return await asyncio.to_thread(self._sweep, before)

    async def close(self) -> None:
        """See `Driver`."""

    def _append(self, path: Path, line: bytes) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.write(line + b"\n")

    def _lines(self, stream: str, after: Place) -> list[tuple[Place, bytes]]:
        """The newest attempt's lines after a place."""
        try:
            attempt = max(int(name) for name in os.listdir(self._root / stream) if name.isdecimal())
            position = after[1] if attempt == after[0] else 0
            with (self._root / stream / str(attempt)).open("rb") as file:
                file.seek(position)
                whole = file.read()
        except (FileNotFoundError, ValueError):  # no stream, or no attempt in it
            return []
        lines = []
        for line in whole.splitlines(keepends=True):
            if line.endswith(b"\n"):  # else it is still being written
                position += len(line)
                lines.append(((attempt, position), line))
        return lines if attempt >= after[0] else []

    def _sweep(self, before: datetime) -> int:
        streams = [path for path in self._root.iterdir() if _STREAM.fullmatch(path.name)] if self._root.is_dir() else []
        old = [path for path in streams if _changed(path) < before.timestamp()]
        for path in old:
            shutil.rmtree(path, ignore_errors=True)  # another sweep deletes it too
        return len(old)


def _changed(path: Path) -> float:
    """When a stream was last written to. A directory's own time is that of its last new file."""
    with suppress(FileNotFoundError):
        return max(entry.stat().st_mtime for entry in (path, *path.iterdir()))
    return 0.0
