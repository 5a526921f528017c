"""Heartbeats of the attempts in flight: how the server learns within seconds that a worker is dead.

The contract, which every attempt keeps from its start until it completes:

- It beats while it waits for its provider and while it holds an outcome for a server that is away. Its first beat comes
  one interval after the start, from which the server counts.
- The interval is the worker's setting (5 s), stretched so that a process sends at most sixty beats a second, and never
  above a third of the heartbeat timeout: two beats may be late or lost. A thousand attempts at one beat every five
  seconds would spend the worker's CPU on beats.
- A beat carries the id of a background response, which the next attempt follows; otherwise it carries nothing, and the
  next attempt asks anew.
- An attempt without a beat for the heartbeat timeout (60 s) counts as lost: outcome unknown, category worker_lost. The
  workflow goes on without it, and what it may still bring is refused by the server.
- The answer to a beat is how a cancellation, or the news that the attempt counts as lost, reaches a worker that lives:
  its request is then closed.

Beats are a task of the worker's event loop. Whatever blocks the loop for longer than the timeout loses every attempt of
the process at once, so nothing slow may run on it. A worker that is asked to stop goes on beating while it drains.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final

from temporalio import activity

from durable_llm.contract.heartbeat import AttemptHeartbeat

PER_SECOND: Final = 60.0
"""Heartbeats that one process sends at most in a second."""


class Heartbeat:
    """The heartbeats of one attempt."""

    def __init__(self) -> None:
        self._details: tuple[AttemptHeartbeat, ...] = ()

    def send_details(self, details: AttemptHeartbeat) -> None:
        """Heartbeat at once, and carry `details` from now on."""
        self._details = (details,)
        self.send()

    def send(self) -> None:
        """Heartbeat, with the newest details."""
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
        """Seconds until the next heartbeat: stretched under load, never above a third of the timeout."""
        stretched = max(self._interval_s, self._in_flight / PER_SECOND)
        return min(stretched, timeout.total_seconds() / 3) if timeout else stretched

    async def _beat(self, heartbeat: Heartbeat) -> None:
        timeout = activity.info().heartbeat_timeout
        while True:
            await asyncio.sleep(self.interval_s(timeout))  # the server counts from the start: no heartbeat is due then
            heartbeat.send()
