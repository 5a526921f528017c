"""Content under the hash of itself, whatever keeps it.

The name is computed, never chosen: content cannot be exchanged without its readers seeing it, the same content is kept
once, and no name leads out of the store's own place.
"""

import asyncio
import hashlib
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from typing import Final, TypeVar

from durable_llm.store.driver import Driver
from durable_llm.store.errors import ContentCorruptError, ContentMissingError

_T = TypeVar("_T")

AT_ONCE: Final = 8
"""Transfers at once in one process; each holds its content in memory."""

_NAME = re.compile(r"[0-9a-f]{64}")


class Store:
    """A store for large prompts.

    Args:
        driver: What keeps the bytes.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._places = threading.BoundedSemaphore(AT_ONCE)

    @property
    def place(self) -> str:
        """The store's address as it may be shown: without credentials."""
        return self._driver.place

    async def put(self, content: bytes) -> str:
        """Keep `content`; putting it again makes it new.

        Returns:
            Its name: the SHA-256 of the content in 64 hexadecimal digits.

        Raises:
            StoreError: it could not be kept.
        """
        return await self._in_thread(lambda: self._put(content))

    async def get(self, name: str) -> bytes:
        """The content of this name.

        Raises:
            ContentMissingError: there is none, or `name` is no hash.
            ContentCorruptError: it is not the content of this name.
            StoreError: it could not be read.
        """
        if not _NAME.fullmatch(name):
            raise ContentMissingError(f"a name in {self.place} is a SHA-256 in 64 hexadecimal digits")
        return await self._in_thread(lambda: self._get(name))

    async def sweep(self, before: datetime) -> int:
        """Delete what was last put before `before`; how many that were.

        Raises:
            StoreError: it could not be done.
        """
        return await self._in_thread(lambda: self._driver.sweep(before))

    def _put(self, content: bytes) -> str:
        name = hashlib.sha256(content).hexdigest()
        self._driver.put(name, content)
        return name

    def _get(self, name: str) -> bytes:
        content = self._driver.get(name)
        if hashlib.sha256(content).hexdigest() != name:
            raise ContentCorruptError(f"what {self.place} holds under {name} is something else")
        return content

    async def _in_thread(self, function: Callable[[], _T]) -> _T:
        """Off the event loop, on a daemon thread: a store that hangs holds up nothing, not even the program's end."""
        done: Future[_T] = Future()
        threading.Thread(target=self._run, args=(function, done), name="durable-llm-store", daemon=True).start()
        return await asyncio.wrap_future(done)

    def _run(self, function: Callable[[], _T], done: Future[_T]) -> None:
        with self._places:
            if not done.set_running_or_notify_cancel():  # given up while it waited for a place
                return
            try:
                done.set_result(function())
            except BaseException as error:  # whatever it is, it is the waiter's
                done.set_exception(error)
