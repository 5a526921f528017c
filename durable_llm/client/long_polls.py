"""A limited number of long polls that thousands of awaited calls share.

Awaiting a call's end keeps a long poll open, and a Temporal namespace serves a limited number of them at once (1,200
per frontend by default, including the workers' own). Beyond that number nobody is served, neither new calls nor
workers. So a dispatcher opens at most `limit` polls. As long as that is enough, each awaited call keeps its poll until
it ends. Beyond that the newest calls keep theirs, because they are the most likely to end soon. All others rotate
slowly, and a query each second tells which of them have ended: those get a slot at once.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeVar

from temporalio.client import WorkflowExecutionStatus, WorkflowHandle, WorkflowHistoryEventFilterType
from temporalio.service import RPCError

from durable_llm.client.ended_calls import Ended
from durable_llm.errors import InvalidRequestError

logger = logging.getLogger("durable_llm")

_T = TypeVar("_T")

DEFAULT_LIMIT: Final = 200
"""A sixth of what a namespace serves by default, so that several jobs and their workers fit."""

ROTATION_S: Final = 2.0
"""Seconds of a turn where ends cannot be listed. With 200 slots this is a hundred polls a second."""

LONG_ROTATION_S: Final = 60.0
"""Seconds of a turn where ends are listed. Then the turns only find what the list has missed."""

LOOK_S: Final = 1.0
"""Seconds until the next look at the list; half as long after one that found ends."""

_KEPT: Final = 4
"""One slot in four belongs to the newest calls; with fewer than four slots they would have none."""


def check_limit(limit: int) -> int:
    """The number of long polls, if some can be kept and others shared.

    Raises:
        InvalidRequestError: it is too low, or not a number.
    """
    if not isinstance(limit, int) or limit < _KEPT:
        raise InvalidRequestError(f"max_long_polls: expected a number of {_KEPT} or more, got {limit!r}")
    return limit


class LongPolls:
    """The long polls of one dispatcher.

    Args:
        limit: How many may be open at once.
        rotation_s: Seconds in which every rotating slot is passed on once while others queue.
        ended: Lists ended calls. None: they are found by turns alone.

    Raises:
        InvalidRequestError: the limit is too low.
    """

    def __init__(
        self, limit: int = DEFAULT_LIMIT, rotation_s: float = ROTATION_S, *, ended: Ended | None = None
    ) -> None:
        self._limit = check_limit(limit)
        self._rotation_s = rotation_s
        self._ended = ended
        self._listed = False
        self._looking: asyncio.Task[None] | None = None
        self._taken = 0
        self._newest: deque[asyncio.Timeout] = deque()
        self._rotating: dict[asyncio.Timeout, None] = {}  # the longest holder of a slot first
        self._queue: deque[tuple[str, asyncio.Future[None]]] = deque()
        self._clock: asyncio.TimerHandle | None = None

    async def result(self, workflow: WorkflowHandle[Any, _T], run: Callable[[str], WorkflowHandle[Any, _T]]) -> _T:
        """What `workflow.result()` returns or raises, polled only while this caller has a slot.

        If the call ends while it has none, its next slot finds that out.

        Args:
            workflow: A handle on the latest run of a call.
            run: Makes a handle on the run of this run id.
        """
        async with self._slot(workflow.id, newcomer=True):
            return await workflow.result()
        while True:
            async with self._slot(workflow.id) as slot:
                await _closed(workflow)
                latest = await workflow.describe()
                if latest.status == WorkflowExecutionStatus.RUNNING:  # it was run again or reset
                    continue
                self._rotating.pop(slot, None)  # the codec may take its time to read the result
                return await run(latest.run_id).result()

    @asynccontextmanager
    async def _slot(self, call_id: str, *, newcomer: bool = False) -> AsyncIterator[asyncio.Timeout]:
        """A slot for a poll. The block ends early, without an error, when others need the slot."""
        await self._enter(call_id, newcomer)
        slot = asyncio.timeout(None)
        try:
            async with slot:
                self._take(slot, newcomer)
                yield slot
        except TimeoutError:
            if not slot.expired():
                raise
        finally:
            self._rotating.pop(slot, None)
            with suppress(ValueError):
                self._newest.remove(slot)
            self._pass_on()

    async def _enter(self, call_id: str, newcomer: bool) -> None:
        """Wait for a free slot. A newcomer is first in the queue, and the longest holder gives up its slot for it."""
        if self._taken < self._limit:  # so the queue is empty
            self._taken += 1
            return
        granted = asyncio.get_running_loop().create_future()
        if newcomer:
            self._queue.appendleft((call_id, granted))
            self._end_oldest()
        else:
            self._queue.append((call_id, granted))
        self._start_clock()
        try:
            await granted
        except asyncio.CancelledError:
            if not granted.cancelled():  # a slot was granted at the same moment
                self._pass_on()
            raise

    def _take(self, slot: asyncio.Timeout, newcomer: bool) -> None:
        if newcomer:
            self._newest.append(slot)
            if len(self._newest) <= self._limit // _KEPT:
                return
            slot = self._newest.popleft()
        self._rotating[slot] = None

    def _pass_on(self) -> None:
        """Give a free slot to the first in the queue."""
        while self._queue:
            _, granted = self._queue.popleft()
            if not granted.done():
                granted.set_result(None)
                return
        self._taken -= 1

    def _start_clock(self) -> None:
        if self._clock is None:
            turn_s = LONG_ROTATION_S if self._listed else self._rotation_s
            self._clock = asyncio.get_running_loop().call_later(turn_s / self._limit, self._tick)
        if self._ended is not None and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(self._look(self._ended))

    async def _look(self, ended: Ended) -> None:
        """Give a slot to the calls that have ended, as long as some have none."""
        pause_s = LOOK_S
        while self._queue:
            await asyncio.sleep(pause_s)
            try:
                ids = await ended.latest()
            except RPCError as error:  # away, or it cannot list workflows: turns are short until it can
                logger.debug("ended calls cannot be listed: %s", error.message)
                self._listed = False
                continue
            self._listed = True
            first = [entry for entry in self._queue if entry[0] in ids]
            self._queue = deque([*first, *(entry for entry in self._queue if entry[0] not in ids)])
            for _ in first:
                self._end_oldest()
            pause_s = LOOK_S / 2 if first else LOOK_S

    def _tick(self) -> None:
        """End one poll at a time while others queue."""
        self._clock = None
        if self._queue:
            self._end_oldest()
            self._start_clock()

    def _end_oldest(self) -> None:
        if self._rotating:
            oldest = next(iter(self._rotating))
            del self._rotating[oldest]
            oldest.reschedule(asyncio.get_running_loop().time())


async def _closed(workflow: WorkflowHandle[Any, Any]) -> None:
    """Return once the workflow has ended, however it did."""
    async for _ in workflow.fetch_history_events(
        wait_new_event=True, event_filter_type=WorkflowHistoryEventFilterType.CLOSE_EVENT, skip_archival=True
    ):
        return
