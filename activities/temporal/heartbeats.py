"""Heartbeats of attempts, by which the server learns within seconds that a worker is dead.

The contract of every attempt, from its start until it completes:

- It heartbeats while it waits for the provider, and while it holds an outcome because the server is unreachable. The
  first heartbeat comes one interval after the start.
- The interval is a twelfth of the heartbeat timeout (5 s). It grows so that a process sends at most sixty heartbeats a
  second, because a thousand attempts with a heartbeat every five seconds would use up the worker's CPU. It never
  exceeds a third of the timeout: two heartbeats may be late or lost.
- A heartbeat carries the id of a background response, which the next attempt follows. Otherwise it carries nothing, and
  the next attempt sends a new request.
- An attempt without a heartbeat for the heartbeat timeout (60 s) counts as lost: outcome unknown, category worker_lost.
  The workflow continues without it, and the server refuses its result.
- The reply to a heartbeat tells a live worker that its attempt was cancelled or counts as lost. The worker then closes
  the request.

Heartbeats run on the worker's event loop. Code that blocks the loop for longer than the timeout loses every attempt of
the process, so nothing slow may run on it. A stopping worker heartbeats while it drains.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final

from temporalio import activity

from durable_llm.contract.heartbeat import AttemptHeartbeat

PER_SECOND: Final = 60.0
"""The most heartbeats that one process sends in a second."""


class Heartbeat:
    """The heartbeats of one attempt."""

    def __init__(self) -> None:
        self._details: tuple[AttemptHeartbeat, ...] = ()

    def send_details(self, details: AttemptHeartbeat) -> None:
        """Heartbeat now. This and all later heartbeats carry `details`."""
        self._details = (details,)
        self.send()

    def send(self) -> None:
        """Heartbeat with the newest details."""
        activity.heartbeat(*self._details)


class Heartbeats:
    """Sends heartbeats for every attempt of this process.

    Args:
        interval: Time between two heartbeats of one attempt, while few are in flight.
    """

    def __init__(self, interval: timedelta) -> None:
        self._interval_s = interval.total_seconds()
        self._in_flight = 0

    @contextlib.asynccontextmanager
    async def beating(self) -> AsyncIterator[Heartbeat]:
        """Heartbeat while the block runs."""
        self._in_flight += 1
        heartbeat = Heartbeat()
        beats = asyncio.create_task(self._beat(heartbeat))
        try:
            yield heartbeat
        finally:
            self._in_flight -= 1
            beats.cancel()

    def interval_s(self, timeout: timedelta | None) -> float:
        """Seconds until the next heartbeat: longer under load, at most a third of the timeout."""
        stretched = max(self._interval_s, self._in_flight / PER_SECOND)
        return min(stretched, timeout.total_seconds() / 3) if timeout else stretched

    async def _beat(self, heartbeat: Heartbeat) -> None:
        timeout = activity.info().heartbeat_timeout
        while True:
            await asyncio.sleep(self.interval_s(timeout))  # the server counts from the start
            heartbeat.send()
