"""Which calls have ended lately: one query a second instead of a poll for each of thousands of awaited calls."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from temporalio.client import Client, WorkflowExecution

from durable_llm.contract.names import WORKFLOW

OVERLAP: Final = timedelta(seconds=10)
"""How far back each query looks beyond the last end that it knows: a namespace lists an end a moment after it."""

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
        self._since = datetime.now(UTC) - _FIRST

    async def latest(self) -> set[str]:
        """The ids of calls that have ended since a few seconds before the last query.

        Raises:
            RPCError: the server does not answer, or cannot list workflows.
        """
        query = f"WorkflowType = '{WORKFLOW}' AND CloseTime > '{(self._since - OVERLAP).isoformat()}'"
        found: AsyncIterator[WorkflowExecution] = self._client.list_workflows(query, limit=_MOST, page_size=_MOST)
        ids: set[str] = set()
        async for execution in found:
            ids.add(execution.id)
            self._since = max(self._since, execution.close_time or self._since)
        return ids
