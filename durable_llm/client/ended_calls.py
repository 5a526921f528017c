"""Which calls have ended lately: one query a second instead of a poll for each of thousands of awaited calls."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from temporalio.client import Client, WorkflowExecution

from durable_llm.contract.names import WORKFLOW

OVERLAP: Final = timedelta(seconds=10)
"""How far back each query looks: a namespace lists an end a moment after it."""

_FIRST: Final = timedelta(minutes=5)
"""How far back the first query looks. The clocks of client and server may differ."""

_MOST: Final = 2000
"""Ends that one query returns, the newest first. A call that is not among them is found by its own poll."""


class Ended(Protocol):
    """Tells which calls have ended lately."""

    async def latest(self) -> set[str]:
        """Their ids, some of them more than once."""
        ...


class EndedCalls:
    """The ends of calls in one namespace.

    Args:
        client: A client of the namespace.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._last_end = datetime.now(UTC) - _FIRST
        self._last_end_seen = self._last_look = time.monotonic()

    async def latest(self) -> set[str]:
        """The ids of calls that have ended in the last few seconds, and in the last minutes the first time.

        Raises:
            RPCError: the server does not answer, or cannot list workflows.
        """
        # At the last look the server's clock was at least as far beyond the last end as ours was beyond seeing it.
        since = self._last_end + timedelta(seconds=self._last_look - self._last_end_seen) - OVERLAP
        query = f"WorkflowType = '{WORKFLOW}' AND CloseTime > '{since.isoformat()}'"
        found: AsyncIterator[WorkflowExecution] = self._client.list_workflows(query, limit=_MOST, page_size=_MOST)
        began = time.monotonic()
        executions = [execution async for execution in found]
        last_end = max((one.close_time for one in executions if one.close_time), default=self._last_end)
        if last_end > self._last_end:
            self._last_end, self._last_end_seen = last_end, time.monotonic()
        self._last_look = max(began, self._last_end_seen)
        return {execution.id for execution in executions}
