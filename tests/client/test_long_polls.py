"""Sharing few long polls: how many are open, who gets the next slot, and which results arrive."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace

import pytest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from durable_llm import Dispatcher, InvalidRequestError
from durable_llm.client.long_polls import LOOK_S, LongPolls


class Namespace:
    """Counts the polls that are open at once."""

    def __init__(self) -> None:
        self.open = 0
        self.most = 0


class Call:
    """A workflow handle: two ways of waiting for a call's end, and a description of its latest run."""

    def __init__(self, namespace: Namespace, name: str = "", *, reading_s: float = 0.0) -> None:
        self.name = self.id = name
        self.ended = asyncio.Event()
        self.polls = 0
        self._namespace = namespace
        self._reading_s = reading_s

    async def result(self) -> str:
        await self._poll()
        await asyncio.sleep(self._reading_s)
        return self.name

    async def fetch_history_events(self, **_: object) -> AsyncIterator[str]:
        await self._poll()
        yield "closed"

    async def describe(self) -> SimpleNamespace:
        return SimpleNamespace(status=WorkflowExecutionStatus.COMPLETED, run_id="run")

    def run(self, run_id: str) -> "Call":
        assert run_id == "run"
        return self

    async def _poll(self) -> None:
        self.polls += 1
        self._namespace.open += 1
        self._namespace.most = max(self._namespace.most, self._namespace.open)
        try:
            await self.ended.wait()
        finally:
            self._namespace.open -= 1


def awaited(polls: LongPolls, call: Call) -> asyncio.Task[str]:
    """A task that awaits the call's result."""
    return asyncio.create_task(polls.result(call, call.run))


async def settle() -> None:
    """Let every task run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def namespace() -> Namespace:
    """A namespace without polls."""
    return Namespace()


async def test_few_waiters_keep_their_polls(namespace: Namespace) -> None:
    """As long as there are slots for all, each call is polled once."""
    polls = LongPolls(limit=8)
    calls = [Call(namespace, str(number)) for number in range(8)]
    waiting = [awaited(polls, call) for call in calls]
    await asyncio.sleep(0.5)
    assert [call.polls for call in calls] == [1] * 8
    for call in calls:
        call.ended.set()
    assert await asyncio.gather(*waiting) == [str(number) for number in range(8)]


async def test_many_waiters_take_turns_and_never_exceed_the_limit(namespace: Namespace) -> None:
    """Every call gets a slot, every end is noticed, and no more polls are open than allowed."""
    polls = LongPolls(limit=8, rotation_s=0.05)
    calls = [Call(namespace, str(number)) for number in range(100)]
    waiting = [awaited(polls, call) for call in calls]
    await asyncio.sleep(1.5)
    polled = [call.polls for call in calls]
    assert min(polled) >= 1
    assert max(polled) <= min(polled) + 2
    calls[0].ended.set()
    assert await asyncio.wait_for(waiting[0], 2) == "0"
    for call in calls:
        call.ended.set()
    assert await asyncio.wait_for(asyncio.gather(*waiting), 5) == [str(number) for number in range(100)]
    assert namespace.most == 8
    assert namespace.open == 0


class EndsOf:
    """A namespace's list of these calls, or none if it cannot list."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.calls = calls
        self.can_list = True
        self.looks = 0

    async def latest(self) -> set[str]:
        self.looks += 1
        if not self.can_list:
            raise RPCError("no list", RPCStatusCode.UNIMPLEMENTED, b"")
        return {call.id for call in self.calls if call.ended.is_set()}


async def test_a_call_without_a_poll_is_found_by_the_list(namespace: Namespace) -> None:
    """Idle calls take few turns, and the end of each is known after one look."""
    calls = [Call(namespace, str(number)) for number in range(300)]
    ends = EndsOf(calls)
    polls = LongPolls(limit=8, ended=ends)
    waiting = [awaited(polls, call) for call in calls]
    await asyncio.sleep(2 * LOOK_S)
    taken = sum(call.polls for call in calls)
    await asyncio.sleep(LOOK_S)
    assert sum(call.polls for call in calls) - taken <= 2
    for call in calls[100:200]:
        call.ended.set()
    looks = ends.looks
    assert await asyncio.gather(*waiting[100:200]) == [str(number) for number in range(100, 200)]
    assert ends.looks - looks <= 3
    assert namespace.most == 8
    await cancelled(waiting)


async def test_where_ends_cannot_be_listed_turns_find_them(namespace: Namespace) -> None:
    """A namespace may refuse lists."""
    calls = [Call(namespace, str(number)) for number in range(50)]
    ends = EndsOf(calls)
    ends.can_list = False
    polls = LongPolls(limit=8, rotation_s=0.05, ended=ends)
    waiting = [awaited(polls, call) for call in calls]
    await asyncio.sleep(2 * LOOK_S)
    for call in calls:
        call.ended.set()
    async with asyncio.timeout(20):
        assert len(await asyncio.gather(*waiting)) == 50


async def test_a_newcomer_gets_a_place_at_once_and_keeps_it(namespace: Namespace) -> None:
    """The longest holder gives up its slot, so a new call among many old ones does not wait."""
    polls = LongPolls(limit=8)
    waiting = [awaited(polls, Call(namespace)) for _ in range(50)]
    await settle()
    fresh = Call(namespace, "fresh")
    asked = awaited(polls, fresh)
    await settle()
    assert fresh.polls == 1
    await asyncio.sleep(0.5)
    assert fresh.polls == 1
    fresh.ended.set()
    assert await asked == "fresh"
    assert namespace.most == 8
    await cancelled(waiting)


async def test_a_cancelled_waiter_frees_its_place(namespace: Namespace) -> None:
    """Whether it polled or queued."""
    polls = LongPolls(limit=4)
    waiting = [awaited(polls, Call(namespace)) for _ in range(20)]
    await settle()
    left = Call(namespace, "left")
    last = awaited(polls, left)
    await cancelled(waiting[::-1])
    left.ended.set()
    assert await asyncio.wait_for(last, 2) == "left"
    assert namespace.open == 0
    await all_places_are_free(polls, namespace)


async def test_a_place_is_not_lost_with_a_waiter_that_gets_it_and_is_cancelled_at_once(namespace: Namespace) -> None:
    """The slot goes to the next call in the queue."""
    polls = LongPolls(limit=4)
    calls = [Call(namespace) for _ in range(5)]
    first = awaited(polls, calls[0])

    async def end_and_cancel_the_next() -> None:
        await polls.result(calls[1], calls[1].run)
        first.cancel()

    waiting = [asyncio.create_task(end_and_cancel_the_next()), *(awaited(polls, call) for call in calls[2:])]
    await settle()  # the fifth came, and the first made room for it and queues
    calls[1].ended.set()
    await asyncio.gather(waiting[0], first, return_exceptions=True)
    assert first.cancelled()
    await cancelled(waiting[1:])
    await all_places_are_free(polls, namespace)


async def test_reading_a_result_is_not_cut_short_by_a_turns_end(namespace: Namespace) -> None:
    """A result that takes long to decode is read to its end."""
    polls = LongPolls(limit=4, rotation_s=0.05)
    slow = [Call(namespace, str(number), reading_s=0.3) for number in range(12)]
    waiting = [awaited(polls, call) for call in slow]
    await settle()
    for call in slow:
        call.ended.set()
    assert await asyncio.wait_for(asyncio.gather(*waiting), 10) == [str(number) for number in range(12)]


async def test_a_call_that_runs_again_is_polled_for_in_turns(namespace: Namespace) -> None:
    """A caller that learns of a run's end after the next run has begun does not keep its slot during that run."""

    class Rerun(Call):
        async def describe(self) -> SimpleNamespace:
            running = self.polls < 5
            status = WorkflowExecutionStatus.RUNNING if running else WorkflowExecutionStatus.COMPLETED
            return SimpleNamespace(status=status, run_id="run")

        async def result(self) -> str:
            await (asyncio.Event().wait() if self.polls < 5 else super().result())
            return self.name

    polls = LongPolls(limit=4, rotation_s=0.05)
    again = Rerun(namespace, "again")
    waiting = [awaited(polls, call) for call in (again, *(Call(namespace) for _ in range(12)))]
    await settle()
    again.ended.set()
    assert await asyncio.wait_for(waiting[0], 5) == "again"
    await cancelled(waiting[1:])


@pytest.mark.parametrize("limit", [0, -1, 3, 4.5, "200"])
async def test_too_few_long_polls_are_refused_before_anything_is_connected(
    limit: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fewer than four no new call would keep a slot; the check comes before any connection."""
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    lazy = await Client.connect("127.0.0.1:1", lazy=True)
    with pytest.raises(InvalidRequestError, match="max_long_polls: expected a number of 4 or more"):
        Dispatcher(lazy, max_long_polls=limit)
    with pytest.raises(InvalidRequestError, match="max_long_polls: expected a number of 4 or more"):
        await Dispatcher.connect(max_long_polls=limit)


async def test_an_error_is_the_waiters_own(namespace: Namespace) -> None:
    """The caller gets what awaiting the call raises, a timeout of the poll included, and the slot is free."""

    class Lost(Call):
        async def result(self) -> str:
            raise TimeoutError("not the turn's")

    polls = LongPolls(limit=4)
    with pytest.raises(TimeoutError, match="not the turn's"):
        await polls.result(lost := Lost(namespace), lost.run)
    await all_places_are_free(polls, namespace)


async def all_places_are_free(polls: LongPolls, namespace: Namespace) -> None:
    """Exactly as many as the limit poll at once."""
    waiting = [awaited(polls, Call(namespace)) for _ in range(5)]
    await settle()
    assert namespace.open == 4
    await cancelled(waiting)


async def cancelled(tasks: Sequence[asyncio.Task[object]]) -> None:
    """Cancel and await."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
