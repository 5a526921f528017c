"""The program of a child process that runs the functions of callers and plugins.

Jobs are read from stdin and replies are written to stdout, each pickled. The worker kills the process when a job takes
too long. If the worker itself was killed, timers of the kernel end the process, even inside C code that keeps Python's
lock.
"""

import asyncio
import inspect
import os
import pickle
import resource
import signal
import threading
from collections.abc import Callable
from typing import Any, BinaryIO, Final, Literal, NamedTuple

from durable_llm.contract.ledger import clip
from durable_llm.contract.validation import Rejected

MEMORY_BYTES: Final = 2 << 30
"""Data that a child may allocate."""

NICENESS: Final = 10
"""Added to a child's niceness: event loop and provider come first where processors are few."""

ORPHAN_S: Final = 5
"""Seconds after its time limit at which a job ends by itself. The worker should have ended it before."""

_REASON_BYTES: Final = 400


class Job(NamedTuple):
    """One call of a function."""

    number: int
    call: bytes
    """Function, arguments and keyword arguments, pickled. The functions' modules are imported by reading it."""
    timeout_s: float
    cpu_s: float | None = None
    """Limit in seconds of CPU time, for a plain function."""


class Reply(NamedTuple):
    """What became of a job. "began" comes first, then one of the others."""

    number: int
    kind: Literal["began", "returned", "rejected", "failed", "late"]
    value: Any = None
    """The result if "returned", or the reason in words."""


def main() -> None:
    """Run jobs until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal and a supervisor signal the whole group
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(NICENESS)
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES if most < 0 else min(MEMORY_BYTES, most), most))
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a function prints must not be read as a reply
    jobs = os.fdopen(os.dup(0), "rb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    work = _Work(replies)
    try:
        while True:
            work.start(pickle.load(jobs))  # noqa: S301  # the worker wrote it
    except EOFError:
        os._exit(0)  # async jobs may still run, and nobody waits for them


class _Work:
    def __init__(self, replies: BinaryIO) -> None:
        self._replies = replies
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, job: Job) -> None:
        """Run a plain function to its end; start an async one."""
        try:
            function, arguments, parameters = pickle.loads(job.call)  # noqa: S301  # the same
        except Exception as error:  # the function's module may raise anything
            self._reply(job, "failed", f"cannot be loaded: {type(error).__name__}{_text(error)}")
            return
        self._reply(job, "began")
        if is_async(function):
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="async", daemon=True).start()
            asyncio.run_coroutine_threadsafe(self._run_async(job, function, arguments, parameters), self._loop)
            return
        signal.setitimer(signal.ITIMER_REAL, job.timeout_s + ORPHAN_S)
        signal.setitimer(signal.ITIMER_PROF, job.cpu_s or 0)
        try:
            value = function(*arguments, **parameters)
        except BaseException as error:  # SystemExit too is a failure of the function
            self._reply(job, *_failure(error))
        else:
            self._return(job, value)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)

    async def _run_async(self, job: Job, function: Callable[..., Any], arguments: Any, parameters: Any) -> None:
        signal.setitimer(signal.ITIMER_PROF, job.timeout_s + ORPHAN_S)  # a loop that no longer turns never resets it
        try:
            async with asyncio.timeout(job.timeout_s) as limit:
                value = await function(*arguments, **parameters)
        except BaseException as error:
            self._reply(job, *(("late", None) if limit.expired() else _failure(error)))
        else:
            self._return(job, value)
        finally:
            signal.setitimer(signal.ITIMER_PROF, job.timeout_s + ORPHAN_S)

    def _return(self, job: Job, value: Any) -> None:
        if inspect.isawaitable(value):
            self._reply(job, "failed", "returned a coroutine; write it as 'async def'")
            return
        try:
            self._reply(job, "returned", value)
        except Exception as error:  # what cannot be pickled raises whatever it likes
            self._reply(job, "failed", f"returned {type(value).__name__}, which cannot be sent{_text(error)}")

    def _reply(self, job: Job, kind: Any, value: Any = None) -> None:
        data = pickle.dumps(Reply(job.number, kind, value))
        with self._lock:
            self._replies.write(data)
            self._replies.flush()


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling `function` gives a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004  # asks for its kind


def _failure(error: BaseException) -> tuple[str, str]:
    if isinstance(error, Rejected | ValueError | AssertionError):
        return "rejected", _text(error) or ": rejected"
    return "failed", f"raised {type(error).__name__}{_text(error)}"


def _text(error: BaseException) -> str:
    text = clip(" ".join(str(error).split()), _REASON_BYTES)
    return f": {text}" if text else ""
