"""Heartbeats of the attempts in flight.

An attempt heartbeats while it waits for its provider and while it holds an answer, so that the server notices a dead
worker within the heartbeat timeout and not only after the attempt's own. With many attempts in flight the interval
stretches: a thousand attempts at one every five seconds would spend the worker's CPU on heartbeats.

What they carry is kept by the server when they stop: the response that the next attempt can go on with.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final

from temporalio import activity

from durable_llm.heartbeat import AttemptHeartbeat

PER_SECOND: Final = 60.0
"""Heartbeats that one process sends at most in a second."""


class Pulse:
    """The heartbeats of one attempt."""

    def __init__(self) -> None:
        self._details: tuple[AttemptHeartbeat, ...] = ()

    def tell(self, details: AttemptHeartbeat) -> None:
        """Heartbeat at once, and carry `details` from now on."""
        self._details = (details,)
        self.beat()

    def beat(self) -> None:
        """Heartbeat, with what was told."""
        activity.heartbeat(*self._details)


class Heartbeats:
    """Sends heartbeats for every attempt of this process.

    Args:
        interval: Between two heartbeats of one attempt, as long as few are in flight.
    """

    def __init__(self, interval: timedelta) -> None:
        self._interval_s = interval.total_seconds()
        self._in_flight = 0

    @contextlib.asynccontextmanager
    async def beating(self) -> AsyncIterator[Pulse]:
        """Heartbeat while the block runs."""
        self._in_flight += 1
        pulse = Pulse()
        beats = asyncio.create_task(self._beat(pulse))
        try:
            yield pulse
        finally:
            self._in_flight -= 1
            beats.cancel()

    def interval_s(self, timeout: timedelta | None) -> float:
        """Seconds until the next heartbeat: stretched under load, never above a third of the timeout."""
        stretched = max(self._interval_s, self._in_flight / PER_SECOND)
        return min(stretched, timeout.total_seconds() / 3) if timeout else stretched

    async def _beat(self, pulse: Pulse) -> None:
        timeout = activity.info().heartbeat_timeout
        while True:
            await asyncio.sleep(self.interval_s(timeout))  # the server counts from the start: no heartbeat is due then
            pulse.beat()
