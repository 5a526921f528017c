"""A local directory as a store, for the development stack or on a file system that client and worker share.

Only the owner can read the files. Each file is written to a draft, flushed to disk and then renamed.
"""

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from durable_llm.store.errors import ContentMissingError, StoreRefusedError, StoreUnavailableError

_OURS = re.compile(r"[0-9a-f]{64}|\.draft-.+")
_REFUSALS: Final = frozenset({
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP,
})  # fmt: skip


class Directory:
    """Files in one directory, which is created if it is missing.

    Args:
        root: An absolute path.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.place = root.as_uri()

    def put(self, name: str, content: bytes) -> None:
        """See `Driver`."""
        with self._translated():
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._draft(content) as draft:
                draft.replace(self._root / name)
            self._sync()

    def get(self, name: str) -> bytes:
        """See `Driver`."""
        with self._translated():
            try:
                return (self._root / name).read_bytes()
            except FileNotFoundError:
                raise ContentMissingError(f"{self.place} does not hold {name}") from None

    def sweep(self, before: datetime) -> int:
        """See `Driver`. Deletes drafts of killed processes too."""
        deleted = 0
        with self._translated():
            for path in self._root.iterdir() if self._root.is_dir() else ():
                with suppress(FileNotFoundError):  # another sweep deleted it
                    if _OURS.fullmatch(path.name) and path.stat().st_mtime < before.timestamp():
                        path.unlink()
                        deleted += 1
        return deleted

    @contextmanager
    def _draft(self, content: bytes) -> Iterator[Path]:
        """A file on disk with `content`. It is deleted at the end unless it was renamed."""
        descriptor, name = tempfile.mkstemp(prefix=".draft-", dir=self._root)  # mode 0600
        draft = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            yield draft
        finally:
            draft.unlink(missing_ok=True)

    def _sync(self) -> None:
        """Flush the rename to disk. Windows cannot."""
        if os.name == "nt":
            return
        descriptor = os.open(self._root, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kind = StoreRefusedError if error.errno in _REFUSALS else StoreUnavailableError
            raise kind(f"{self.place}: {error.strerror or type(error).__name__}") from None
