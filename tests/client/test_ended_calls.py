"""What is asked for ended calls: nothing twice for long, and nothing left out."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from durable_llm.client.ended_calls import OVERLAP, EndedCalls


class Namespace:
    """Lists the ends that it is given, and keeps from when on it was asked for them."""

    def __init__(self) -> None:
        self.ends: list[Any] | RPCError = []
        self.since: list[datetime] = []

    async def list_workflows(self, query: str, **_: object) -> AsyncIterator[Any]:
        """What has ended, or why it is not listed."""
        self.since.append(datetime.fromisoformat(re.search(r"CloseTime > '(.*)'", query)[1]))
        if isinstance(self.ends, RPCError):
            raise self.ends
        for end in self.ends:
            yield end


def end(call_id: str, close_time: datetime) -> SimpleNamespace:
    return SimpleNamespace(id=call_id, close_time=close_time)


async def test_a_query_looks_a_little_beyond_the_last_end() -> None:
    """An end that is listed late is still found, whatever this machine's clock says."""
    namespace, yesterday = Namespace(), datetime.now(UTC) - timedelta(days=1)
    ended = EndedCalls(cast("Client", namespace))
    assert await ended.latest() == set()
    assert datetime.now(UTC) - namespace.since[0] > timedelta(minutes=4)
    soon = datetime.now(UTC) + timedelta(hours=3)
    namespace.ends = [end("a", soon), end("b", yesterday)]
    assert await ended.latest() == {"a", "b"}
    await ended.latest()
    assert namespace.since[2] == soon - OVERLAP


async def test_old_ends_are_not_listed_for_ever() -> None:
    """While nothing ends, the queries move on with time."""
    namespace = Namespace()
    ended = EndedCalls(cast("Client", namespace))
    namespace.ends = [end("a", datetime.now(UTC))]
    await ended.latest()
    for _ in range(3):
        await ended.latest()
    first, *later = namespace.since[1:]
    assert first < later[-1] == max(later)


async def test_what_ends_while_ends_cannot_be_listed_is_listed_afterwards() -> None:
    """The queries wait for the first that is answered."""
    namespace = Namespace()
    ended = EndedCalls(cast("Client", namespace))
    namespace.ends = [end("a", datetime.now(UTC))]
    await ended.latest()
    await ended.latest()
    namespace.ends = RPCError("away", RPCStatusCode.UNAVAILABLE, b"")
    for _ in range(3):
        with pytest.raises(RPCError):
            await ended.latest()
    assert len(set(namespace.since[2:])) == 1
