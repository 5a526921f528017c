"""A local directory for streams: the development stack's, or a file system that clients and workers share.

A stream is a directory, an attempt is a file in it, and a batch is a line. Only the owner can read them.
"""

import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

_STREAM: Final = re.compile(r"[0-9a-f]{64}")


class Directory:
    """Files in one directory, which is created if it is missing.

    Args:
        root: An absolute path.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.place = root.as_uri()

    def append(self, stream: str, attempt: int, line: bytes) -> None:
        """See `Driver`."""
        path = self._root / stream / str(attempt)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.write(line + b"\n")

    def attempts(self, stream: str) -> Sequence[int]:
        """See `Driver`."""
        with suppress(FileNotFoundError):
            return sorted(int(name) for name in os.listdir(self._root / stream) if name.isdecimal())
        return ()

    def read(self, stream: str, attempt: int, position: int) -> tuple[Sequence[bytes], int]:
        """See `Driver`. A position is a number of bytes."""
        try:
            with (self._root / stream / str(attempt)).open("rb") as file:
                file.seek(position)
                whole, end, _ = file.read().rpartition(b"\n")  # what follows is still being written
        except FileNotFoundError:
            return (), position
        return whole.split(b"\n") if end else (), position + len(whole) + len(end)

    def sweep(self, before: datetime) -> int:
        """See `Driver`."""
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
