"""Content-addressed storage over any driver.

A content's name is its hash. So changed content is noticed, equal content is kept once, and no name can leave the
store's directory, bucket or table.
"""

import asyncio
import hashlib
import re
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from datetime import datetime
from typing import Final, Protocol, TypeVar

from durable_llm.backoff import Backoff
from durable_llm.store.errors import ContentCorruptError, ContentMissingError, StoreUnavailableError

_T = TypeVar("_T")

AT_ONCE: Final = 8
"""Transfers at once in one process. Each holds its content in memory."""

_NAME = re.compile(r"[0-9a-f]{64}")


class Driver(Protocol):
    """Bytes under names, in one kind of store. The methods block; they run in threads, several at once.

    They raise StoreUnavailableError where a retry may help and StoreRefusedError where it does not.
    """

    @property
    def place(self) -> str:
        """The store's address without credentials."""
        ...

    def put(self, name: str, content: bytes) -> None:
        """Keep `content` under `name`, atomically. Its age starts again."""
        ...

    def get(self, name: str) -> bytes:
        """The content under `name`.

        Raises:
            ContentMissingError: nothing is kept under it.
        """
        ...

    def sweep(self, before: datetime) -> int:
        """Delete content that was last put before `before`. Returns how many."""
        ...


class Store:
    """A store for large prompts.

    Args:
        driver: Keeps the bytes.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._slots = threading.BoundedSemaphore(AT_ONCE)

    @property
    def place(self) -> str:
        """The store's address without credentials."""
        return self._driver.place

    async def put(self, content: bytes) -> str:
        """Keep `content`. Putting it again restarts its age.

        Returns:
            Its name: the SHA-256 of the content in 64 hexadecimal digits.

        Raises:
            StoreError: the store cannot keep it.
        """
        return await self._in_thread(lambda: self._put(content))

    async def get(self, name: str) -> bytes:
        """The content of this name.

        Raises:
            ContentMissingError: the store does not have it, or `name` is not a hash.
            ContentCorruptError: it does not match its name.
            StoreError: the store cannot read it.
        """
        if not _NAME.fullmatch(name):
            raise ContentMissingError(f"a name in {self.place} is a SHA-256 in 64 hexadecimal digits")
        return await self._in_thread(lambda: self._get(name))

    async def sweep(self, before: datetime) -> int:
        """Delete content that was last put before `before`. Returns how many.

        Raises:
            StoreError: the store cannot do it.
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
        """Run on a daemon thread: a store that hangs blocks neither the event loop nor the end of the program."""
        done: Future[_T] = Future()
        threading.Thread(target=self._run, args=(function, done), name="durable-llm-store", daemon=True).start()
        return await asyncio.wrap_future(done)

    def _run(self, function: Callable[[], _T], done: Future[_T]) -> None:
        with self._slots:
            if not done.set_running_or_notify_cancel():  # cancelled while it waited
                return
            try:
                done.set_result(function())
            except BaseException as error:  # the caller gets every kind
                done.set_exception(error)


async def retry_while_unavailable(
    transfer: Callable[[], Awaitable[_T]], *, on_failure: Callable[[StoreUnavailableError], None]
) -> _T:
    """The result of `transfer`, retried with growing pauses. The caller limits the time.

    Args:
        transfer: One try.
        on_failure: Called with the error of each failed try.

    Raises:
        StoreError: a retry does not help.
    """
    backoff = Backoff(first_s=0.2, longest_s=10.0)
    while True:
        try:
            return await transfer()
        except StoreUnavailableError as error:
            on_failure(error)
        await backoff.pause()
