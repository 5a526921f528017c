"""Many calls at once, with a bound on how many are in flight and in memory."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Sized
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from durable_llm.client.checks import check_count
from durable_llm.client.prompt import Messages
from durable_llm.contract.result import LLMResult
from durable_llm.errors import DecryptionError, DispatcherUnavailableError, DurableLLMError, InvalidRequestError

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


@dataclass(frozen=True, kw_only=True)
class MapResult:
    """How one call of a `map` ended: exactly one of `result` and `error` is set.

    Attributes:
        index: Place of its prompt, from 0.
        result: Its answer.
        error: The error that `CallHandle.result` or `submit` raised.
    """

    index: int
    result: LLMResult | None = None
    error: DurableLLMError | None = None


def map_calls(
    call: Callable[[Messages, str | None], Awaitable[LLMResult]],
    prompts: Iterable[Messages] | AsyncIterable[Messages],
    ids: Iterable[str] | AsyncIterable[str] | None,
    *, concurrency: int, ordered: bool, progress: bool,
) -> AsyncGenerator[MapResult]:  # fmt: skip
    """The results of `call` for each prompt with its id.

    Raises:
        InvalidRequestError: `concurrency` is not a count, or there are more or fewer ids than prompts.
        DispatcherUnavailableError, DecryptionError: what would end every call in the same way.
    """
    check_count("concurrency", concurrency)
    total = len(prompts) if isinstance(prompts, Sized) else None
    if isinstance(ids, Sized) and total is not None and len(ids) != total:
        raise _other_number(len(ids), total)

    async def ask(item: tuple[int, Messages, str | None]) -> MapResult:
        index, prompt, call_id = item
        try:
            return MapResult(index=index, result=await call(prompt, call_id))
        except (DispatcherUnavailableError, DecryptionError):
            raise
        except DurableLLMError as error:
            return MapResult(index=index, error=error)

    ended = at_once(ask, _numbered(prompts, ids), concurrency=concurrency, ordered=ordered)
    return with_bar(ended, total, failed=lambda each: each.error is not None) if progress else ended


async def _numbered(
    prompts: Iterable[Messages] | AsyncIterable[Messages], ids: Iterable[str] | AsyncIterable[str] | None
) -> AsyncGenerator[tuple[int, Messages, str | None]]:
    """Each prompt with its place and its id."""
    index, id_source = 0, None if ids is None else _iterate(ids)
    async for prompt in _iterate(prompts):
        try:
            call_id = None if id_source is None else await anext(id_source)
        except StopAsyncIteration:
            raise _other_number(index, "more") from None
        yield index, prompt, call_id
        index += 1


def _other_number(ids: int, prompts: int | str) -> InvalidRequestError:
    return InvalidRequestError(f"ids: there are {ids} ids and {prompts} prompts; give each prompt an id, or none")


async def at_once(
    make: Callable[[_Item], Awaitable[_Made]], items: Iterable[_Item] | AsyncIterable[_Item], *,
    concurrency: int, ordered: bool = False,
) -> AsyncGenerator[_Made]:  # fmt: skip
    """What `make` returns for each item, as it ends or in the order of the items.

    An item is read when its turn comes. At most `concurrency` items have been read and not yet been given out, so a
    reader that is slow, or one late item in an ordered run, holds the rest back. When the reader leaves, what runs is
    cancelled.

    Raises:
        Exception: the first one that `make` raises; what runs is cancelled.
    """
    slots = asyncio.Semaphore(concurrency)
    ready: asyncio.Queue[asyncio.Future[_Made] | None] = asyncio.Queue()
    """What to give out next, in the order of items or of ends; None when the last item has been read."""
    running: set[asyncio.Future[_Made]] = set()

    async def feed() -> None:
        source = _iterate(items)
        while await slots.acquire():
            try:
                item = await anext(source)
            except StopAsyncIteration:
                return
            task = asyncio.ensure_future(make(item))
            running.add(task)
            if ordered:
                ready.put_nowait(task)
            else:
                task.add_done_callback(ready.put_nowait)

    feeder = asyncio.create_task(feed())
    feeder.add_done_callback(lambda _: ready.put_nowait(None))
    try:
        while running or not feeder.done():
            task = await ready.get()
            if task is None:
                await feeder
                continue
            made = await task
            running.discard(task)
            slots.release()
            yield made
        await feeder
    finally:
        unfinished: list[asyncio.Future[Any]] = [feeder, *running]
        for each in unfinished:
            each.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)


async def _iterate(items: Iterable[_Item] | AsyncIterable[_Item]) -> AsyncGenerator[_Item]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
        return
    for item in items:
        yield item


async def with_bar(
    ended: AsyncGenerator[_Made], total: int | None, *, failed: Callable[[_Made], bool], done: int = 0
) -> AsyncGenerator[_Made]:
    """`ended`, with a bar on stderr that shows how many there have been.

    Args:
        ended: What is counted.
        total: How many there will be. None: not known.
        failed: Whether one counts as failed.
        done: How many have ended before.
    """
    from rich.console import Console  # noqa: PLC0415  # slow to import, and most callers never need it
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415  # as above

    columns = (
        BarColumn(), MofNCompleteColumn(), TextColumn("answered, {task.fields[failed]} failed"), TimeElapsedColumn()
    )  # fmt: skip
    bar = Progress(*columns, console=Console(stderr=True))
    task, failures = bar.add_task("", total=total, completed=done, failed=0), 0
    with bar:
        async with aclosing(ended):
            async for each in ended:
                failures += failed(each)
                bar.update(task, advance=1, failed=failures)
                yield each
