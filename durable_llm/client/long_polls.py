"""Long polls in turns: how thousands of awaited calls share the few that a namespace serves.

Whoever awaits a call's end keeps a long poll open, and a Temporal namespace serves a limited number of them at once
(1,200 per frontend by default, the workers' own among them). Beyond that nobody is served, a fresh call as little as a
worker. So a dispatcher opens at most `limit`. While no more calls are awaited, each keeps its own poll until it ends.
Beyond that the latest comers keep theirs, for they are the likeliest to end soon, and all others take turns.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeVar

from temporalio.client import WorkflowExecutionStatus, WorkflowHandle, WorkflowHistoryEventFilterType

from durable_llm.errors import InvalidRequestError

_T = TypeVar("_T")

DEFAULT_LIMIT: Final = 200
"""A sixth of what a namespace serves by default: several jobs and their workers fit beside each other."""

TURN_S: Final = 2.0
"""A hundred polls a second for 200 places: what an embedded server does not feel."""

_KEPT: Final = 4
"""One place in so many is kept by the latest comers; with fewer places there would be none."""


def check_limit(limit: int) -> int:
    """The number of long polls, if some can be kept and others shared.

    Raises:
        InvalidRequestError: it is too low, or no number.
    """
    if not isinstance(limit, int) or limit < _KEPT:
        raise InvalidRequestError(f"max_long_polls: expected a number from {_KEPT} on, got {limit!r}")
    return limit


class LongPolls:
    """The long polls of one dispatcher.

    Args:
        limit: How many may be open at once.
        turn_s: Seconds in which all places change hands once while others queue.

    Raises:
        InvalidRequestError: the limit is too low.
    """

    def __init__(self, limit: int = DEFAULT_LIMIT, turn_s: float = TURN_S) -> None:
        self._limit = check_limit(limit)
        self._tick_s = turn_s / limit
        self._taken = 0
        self._latest: deque[asyncio.Timeout] = deque()
        self._turns: dict[asyncio.Timeout, None] = {}  # the longest holder of a place first
        self._queue: deque[asyncio.Future[None]] = deque()
        self._clock: asyncio.TimerHandle | None = None

    async def result(self, workflow: WorkflowHandle[Any, _T], run: Callable[[str], WorkflowHandle[Any, _T]]) -> _T:
        """What `workflow.result()` returns or raises, polled for only while it is this waiter's turn.

        An end that comes out of turn is learned of at the next one.

        Args:
            workflow: The latest run of an id.
            run: A handle on the id's run of this run id.
        """
        async with self._place(newcomer=True):
            return await workflow.result()
        while True:
            async with self._place() as place:
                await _closed(workflow)
                latest = await workflow.describe()
                if latest.status == WorkflowExecutionStatus.RUNNING:  # run again meanwhile, or reset
                    continue
                self._turns.pop(place, None)  # reading the result may take as long as its codec wants
                return await run(latest.run_id).result()

    @asynccontextmanager
    async def _place(self, *, newcomer: bool = False) -> AsyncIterator[asyncio.Timeout]:
        """A place for a poll; the block ends early, without an error, when others need the place."""
        await self._enter(newcomer)
        place = asyncio.timeout(None)
        try:
            async with place:
                self._take(place, newcomer)
                yield place
        except TimeoutError:
            if not place.expired():
                raise
        finally:
            self._turns.pop(place, None)
            with suppress(ValueError):
                self._latest.remove(place)
            self._pass_on()

    async def _enter(self, newcomer: bool) -> None:
        """Wait for a free place; a newcomer is first in the queue, and the longest holder makes room for it."""
        if self._taken < self._limit:  # so nobody queues
            self._taken += 1
            return
        granted = asyncio.get_running_loop().create_future()
        if newcomer:
            self._queue.appendleft(granted)
            self._end_oldest()
        else:
            self._queue.append(granted)
        self._start_clock()
        try:
            await granted
        except asyncio.CancelledError:
            if not granted.cancelled():  # it was granted in the same moment
                self._pass_on()
            raise

    def _take(self, place: asyncio.Timeout, newcomer: bool) -> None:
        if newcomer:
            self._latest.append(place)
            if len(self._latest) <= self._limit // _KEPT:
                return
            place = self._latest.popleft()
        self._turns[place] = None

    def _pass_on(self) -> None:
        """Give a place that was left to the first in the queue."""
        while self._queue:
            granted = self._queue.popleft()
            if not granted.done():
                granted.set_result(None)
                return
        self._taken -= 1

    def _start_clock(self) -> None:
        if self._clock is None:
            self._clock = asyncio.get_running_loop().call_later(self._tick_s, self._tick)

    def _tick(self) -> None:
        """End one poll at a time, as long as somebody queues."""
        self._clock = None
        if self._queue:
            self._end_oldest()
            self._start_clock()

    def _end_oldest(self) -> None:
        if self._turns:
            oldest = next(iter(self._turns))
            del self._turns[oldest]
            oldest.reschedule(asyncio.get_running_loop().time())


async def _closed(workflow: WorkflowHandle[Any, Any]) -> None:
    """Return once the workflow has ended, however it did."""
    async for _ in workflow.fetch_history_events(
        wait_new_event=True, event_filter_type=WorkflowHistoryEventFilterType.CLOSE_EVENT, skip_archival=True
    ):
        return
