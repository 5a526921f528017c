"""durable_llm without asyncio: for scripts, threads, and notebooks.

    from durable_llm import sync

    with sync.Dispatcher.connect() as dispatcher:
        print(dispatcher.call("openai/gpt-4o-mini", "Name a prime.").text)

Every method is the one of the same name in `durable_llm`, run on an event loop in a background thread and awaited. So
it takes the same arguments, returns the same results and raises the same errors. Any thread may call it, also one in
which a loop runs already; that loop then stands still. Ctrl-C cancels what is awaited, as a cancellation does there.
"""

import asyncio
import atexit
import functools
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Concatenate, Final, Generic, ParamSpec, Self, TypeVar, Unpack

from pydantic import BaseModel

from durable_llm.client import dispatcher as asynchronous
from durable_llm.client import handle as async_handle
from durable_llm.client import job as async_job
from durable_llm.client import stream as async_stream
from durable_llm.client.calls import CANCEL_S
from durable_llm.client.connection import check_not_forked, rest_at_exit
from durable_llm.client.new_call import CallOptions
from durable_llm.client.spending import Spending
from durable_llm.client.stream import Position
from durable_llm.client.stream_events import StreamEvent
from durable_llm.errors import InvalidRequestError

_P = ParamSpec("_P")
_R = TypeVar("_R")
_Inner = TypeVar("_Inner")
_Made = TypeVar("_Made")

_CLEAN_UP_S: Final = CANCEL_S + 1.0
"""Seconds that what was interrupted may take to end."""


class _Delegate(Generic[_Inner]):
    """Stands for an object that is used on the background loop."""

    def __init__(self, inner: _Inner) -> None:
        self._inner = inner

    def __repr__(self) -> str:
        return f"sync.{self._inner!r}"


class _Background:
    """The event loop of this process, in a thread of its own."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="durable-llm-sync", daemon=True)
        self.thread.start()
        rest_at_exit()  # registered first, so that it runs after the loop has ended
        atexit.register(self._end)

    def _end(self) -> None:
        """Cancel what runs, so that the interpreter ends without it."""
        if os.getpid() != self._process:  # a fork has inherited this function, and not the thread
            return
        asyncio.run_coroutine_threadsafe(_cancel_all(), self.loop).result(_CLEAN_UP_S)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(_CLEAN_UP_S)


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


_starting: Final = threading.Lock()
_backgrounds: Final[dict[int, _Background]] = {}
"""The background loop, by the process that has started it."""


def _background() -> _Background:
    with _starting:
        return _backgrounds.get(os.getpid()) or _backgrounds.setdefault(os.getpid(), _Background())


def _run(start: Callable[[], Awaitable[_R]]) -> _R:
    """What `start` returns, awaited on the background loop.

    Raises:
        InvalidRequestError: called in the background thread itself, or in a process that was forked from one with an
            open connection.
    """
    check_not_forked()
    background = _background()
    if threading.current_thread() is background.thread:
        raise InvalidRequestError("called in the background thread, which would wait for itself; use another thread")
    ended = threading.Event()

    async def run() -> _R:
        try:
            return await start()
        finally:
            ended.set()

    future = asyncio.run_coroutine_threadsafe(run(), background.loop)
    try:
        return future.result()
    except BaseException:
        if future.cancel():  # the caller was interrupted
            ended.wait(_CLEAN_UP_S)
        raise


def _iterate(start: Callable[[], AsyncIterator[_R]]) -> Iterator[_R]:
    """What an asynchronous iterator yields. It is closed when the caller leaves."""

    async def first() -> AsyncIterator[_R]:
        return start()

    source = _run(first)
    try:
        while True:
            try:
                item = _run(lambda: anext(source))
            except StopAsyncIteration:
                return
            yield item
    finally:
        if isinstance(source, AsyncGenerator):
            _run(source.aclose)


def _delegated(
    method: Callable[Concatenate[Any, _P], _Made], give: Callable[[Callable[[], _Made]], _R]
) -> Callable[Concatenate[Any, _P], _R]:
    """The method, whose start `give` turns into what this side gives."""

    @functools.wraps(method)
    def call(self: _Delegate[Any], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        return give(lambda: method(self._inner, *args, **kwargs))

    return call


def _blocking(method: Callable[Concatenate[Any, _P], Awaitable[_R]]) -> Callable[Concatenate[Any, _P], _R]:
    """The method, run on the background loop and awaited."""
    return _delegated(method, _run)


class CallStream(_Delegate[async_stream.CallStream]):
    """The events of one call: `for event in stream`. See `durable_llm.CallStream`."""

    @property
    def text(self) -> str:
        """What a screen should show now."""
        return self._inner.text

    def __iter__(self) -> Iterator[StreamEvent]:
        return _iterate(lambda: aiter(self._inner))

    def settled(self) -> Iterator[str]:
        """Only text that will stand. See `durable_llm.CallStream.settled`."""
        return _iterate(self._inner.settled)


class CallHandle(_Delegate[async_handle.CallHandle]):
    """One call, running or ended. See `durable_llm.CallHandle`."""

    @property
    def call_id(self) -> str:
        """The call's id, with which any process can attach to it."""
        return self._inner.call_id

    @property
    def attached(self) -> bool:
        """Whether the call was there before this handle."""
        return self._inner.attached

    result = _blocking(async_handle.CallHandle.result)
    attempts = _blocking(async_handle.CallHandle.attempts)
    status = _blocking(async_handle.CallHandle.status)
    cancel = _blocking(async_handle.CallHandle.cancel)
    delete = _blocking(async_handle.CallHandle.delete)
    retry = _blocking(async_handle.CallHandle.retry)
    skip = _blocking(async_handle.CallHandle.skip)
    replace = _blocking(async_handle.CallHandle.replace)
    pause = _blocking(async_handle.CallHandle.pause)
    resume = _blocking(async_handle.CallHandle.resume)
    extend = _blocking(async_handle.CallHandle.extend)
    end = _blocking(async_handle.CallHandle.end)

    def stream(self, after: Position | None = None) -> CallStream:
        """The events of the call. See `durable_llm.CallHandle.stream`."""
        return CallStream(self._inner.stream(after))


def _handle(start: Callable[[], Awaitable[async_handle.CallHandle]]) -> CallHandle:
    return CallHandle(_run(start))


def _stream(start: Callable[[], async_stream.CallStream]) -> CallStream:
    return CallStream(start())


class Job(_Delegate[async_job.Job]):
    """The calls of one job. See `durable_llm.Job`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def name(self) -> str:
        """The job's id, for a step with the step's name."""
        return self._inner.name

    @property
    def spent(self) -> Spending:
        """What the calls whose ends this run has seen have used. See `durable_llm.Job.spent`."""
        return self._inner.spent

    def step(self, name: str) -> "Job":
        """A part of the job in which a content that was asked before is a new call. See `durable_llm.Job.step`."""
        return Job(self._inner.step(name))

    call = _blocking(async_job.Job.call)
    submit = _delegated(async_job.Job.submit, _handle)
    stream = _delegated(async_job.Job.stream, _stream)
    embed = _blocking(async_job.Job.embed)
    map = _delegated(async_job.Job.map, _iterate)
    report = _blocking(async_job.Job.report)
    cancel = _blocking(async_job.Job.cancel)


def _connecting(
    method: Callable[_P, Awaitable[asynchronous.Dispatcher]],
) -> "Callable[_P, Dispatcher]":
    """The method, run on the background loop and awaited, with a dispatcher for this side."""

    @functools.wraps(method)
    def connect(*args: _P.args, **kwargs: _P.kwargs) -> "Dispatcher":
        return Dispatcher(_run(lambda: method(*args, **kwargs)))

    return connect


class Dispatcher(_Delegate[asynchronous.Dispatcher]):
    """A connection to Temporal for submitting calls. Get one with `Dispatcher.connect()`, for any number of threads."""

    connect = staticmethod(_connecting(asynchronous.Dispatcher.connect))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    call = _blocking(asynchronous.Dispatcher.call)
    submit = _delegated(asynchronous.Dispatcher.submit, _handle)
    stream = _delegated(asynchronous.Dispatcher.stream, _stream)
    embed = _blocking(asynchronous.Dispatcher.embed)
    map = _delegated(asynchronous.Dispatcher.map, _iterate)
    report = _blocking(asynchronous.Dispatcher.report)
    find = _blocking(asynchronous.Dispatcher.find)
    hold = _blocking(asynchronous.Dispatcher.hold)
    release = _blocking(asynchronous.Dispatcher.release)
    holds = _blocking(asynchronous.Dispatcher.holds)
    budget = _blocking(asynchronous.Dispatcher.budget)
    raise_budget = _blocking(asynchronous.Dispatcher.raise_budget)
    asked = _blocking(asynchronous.Dispatcher.asked)
    close = _blocking(asynchronous.Dispatcher.close)

    def attach(self, call_id: str, *, response_type: type[BaseModel] | None = None) -> CallHandle:
        """A handle on the call with this id. See `durable_llm.Dispatcher.attach`."""
        return CallHandle(self._inner.attach(call_id, response_type=response_type))

    def job(self, job_id: str, **options: Unpack[CallOptions]) -> Job:
        """The calls of a job. See `durable_llm.Dispatcher.job`."""
        return Job(self._inner.job(job_id, **options))
