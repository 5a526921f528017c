"""The child processes that run the functions of callers and plugins, seen from the worker."""

import asyncio
import atexit
import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
from concurrent.futures import Future, InvalidStateError
from itertools import count
from typing import IO, Any, Final

from .child import Job, Reply

_START_TIMEOUT_S: Final = 60.0
_GRACE_S: Final = 0.5
"""How much later than its limit a job is ended from here. An async one is cancelled in its process before."""


class ChildEndedError(Exception):
    """The process ended during a job.

    Args:
        status: Its exit status, or the negative number of a signal.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Child:
    """A child process. It ends with this one."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603  # our own program
            [sys.executable, "-c", f"from {__package__}.child import main; main()"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise OSError("no pipe to the process")
        self._numbers = count()
        self._running: dict[int, tuple[Future[None], Future[Reply]]] = {}
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._status: int | None = None
        for work, pipe in ((self._write, self._process.stdin), (self._read, self._process.stdout)):
            threading.Thread(target=work, args=[pipe], name=f"child {self._process.pid}", daemon=True).start()

    @property
    def alive(self) -> bool:
        """Whether it takes jobs."""
        return self._process.poll() is None

    async def run(self, call: bytes, timeout_s: float, cpu_s: float | None = None) -> Reply:
        """The reply to a job. The limit counts from its start, and a child's first job imports modules before.

        Raises:
            TimeoutError: no reply in time. The process is killed.
            ChildEndedError: the process ended.
        """
        job = Job(next(self._numbers), call, timeout_s, cpu_s)
        began, ended = self._running.setdefault(job.number, (Future(), Future()))
        with self._lock:
            if self._status is not None:
                raise ChildEndedError(self._status)
            self._jobs.put(job)
        try:
            await asyncio.wait_for(asyncio.wrap_future(began), _START_TIMEOUT_S)
            return await asyncio.wait_for(asyncio.wrap_future(ended), timeout_s + _GRACE_S)
        except TimeoutError:
            self.kill()
            raise
        finally:
            self._running.pop(job.number, None)

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def _write(self, jobs: IO[bytes]) -> None:
        with contextlib.suppress(OSError):
            while True:
                pickle.dump(self._jobs.get(), jobs)
                jobs.flush()

    def _read(self, replies: IO[bytes]) -> None:
        with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):
            while True:
                reply: Reply = pickle.load(replies)  # noqa: S301  # the child is as trusted as its plugins
                began, ended = self._running.get(reply.number, (None, None))
                _settle(began, None)
                if reply.kind != "began":
                    _settle(ended, reply)
        self.kill()
        status = self._process.wait()
        with self._lock:
            self._status = status
        for futures in list(self._running.values()):
            for future in futures:
                with contextlib.suppress(InvalidStateError):
                    future.set_exception(ChildEndedError(status))


def _settle(future: "Future[Any] | None", value: Any) -> None:
    with contextlib.suppress(InvalidStateError):  # its waiter was cancelled
        if future is not None:
            future.set_result(value)


class Children:
    """The child processes of this process. They are started when needed, and kept."""

    def __init__(self) -> None:
        self._all: list[Child] = []
        self._idle: list[Child] = []
        self._shared: Child | None = None
        self._lock = threading.Lock()
        atexit.register(self._kill)

    async def take(self) -> Child:
        """A child for one job alone."""
        while self._idle:
            if (child := self._idle.pop()).alive:
                return child
        return await asyncio.to_thread(self._start)  # a fork of a large process takes a while

    def give_back(self, child: Child) -> None:
        """Keep a child for the next job."""
        self._idle.append(child)

    async def shared(self) -> Child:
        """The child of all async functions."""
        return await asyncio.to_thread(self._start_shared)

    def _start_shared(self) -> Child:
        with self._lock:  # a hundred answers may ask for the first one
            if self._shared is None or not self._shared.alive:
                self._shared = self._start()
            return self._shared

    def _start(self) -> Child:
        child = Child()
        self._all = [*(other for other in self._all if other.alive), child]
        return child

    def _kill(self) -> None:
        for child in self._all:
            child.kill()


CHILDREN: Final = Children()
"""All workers in one process share them."""
