"""Streams in Temporal alone: batches are signals to the call, by Temporal's own `temporalio.contrib.workflow_streams`.

A batch costs four events of the call's history, so batches grow and their number is limited. A reader asks by a query,
which leaves no event; the package's own `subscribe` leaves five with each look.
"""

import asyncio
import base64
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WorkflowQueryFailedError
from temporalio.contrib.workflow_streams import PollInput, PollResult, WorkflowStreamClient
from temporalio.service import RPCError

from durable_llm.contract.names import STREAM_QUERY
from durable_llm.contract.stream import Batch
from durable_llm.streams.channel import Place

FIRST_S: Final = 0.1
LONGEST_S: Final = 1.0
"""Seconds that pieces are collected, and between two looks of a reader: at first, and at last."""

GROWTH: Final = 1.2
MOST_BATCHES: Final = 1000
"""Batches of one attempt. Temporal accepts 10,000 signals for a workflow, and 51,200 events."""

_QUERY: Final = timedelta(seconds=2)
"""How long a worker has to answer a query."""


class TemporalStreams:
    """The streams of a Temporal server's calls. They expire with the calls' histories."""

    place = "Temporal"

    def channel(self, client: Client, workflow_id: str, run_id: str) -> "TemporalChannel":
        """See `Streams`."""
        return TemporalChannel(client, workflow_id, run_id)

    async def sweep(self, before: datetime) -> int:
        """See `Streams`. Temporal's retention does it."""
        del before
        return 0

    async def close(self) -> None:
        """See `Streams`."""


class TemporalChannel:
    """One call's stream. A place is an attempt and an offset in the workflow's stream.

    Args:
        client: A client with our data converter.
        workflow_id: The call's workflow.
        run_id: Its run.
    """

    max_bytes = 1_000_000

    def __init__(self, client: Client, workflow_id: str, run_id: str) -> None:
        self._handle = client.get_workflow_handle(workflow_id, run_id=run_id)
        self._converter = client.data_converter.payload_converter
        self._signals = WorkflowStreamClient(self._handle, client=client)
        self._looks_in_vain = 0

    def collect_s(self, published: int) -> float | None:
        """See `Channel`."""
        return _pause_s(published) if published < MOST_BATCHES else None

    async def append(self, attempt: int, number: int, batch: Batch) -> None:
        """See `Channel`. The package numbers the batches itself."""
        del number
        self._signals.topic(str(attempt)).publish(batch)
        try:
            await self._signals.flush()
        except RPCError as error:
            raise OSError(f"Temporal did not take a signal: {type(error).__name__}") from None

    async def read(self, after: Place, wait_s: float) -> tuple[Sequence[Batch], Place]:
        """See `Channel`."""
        deadline = asyncio.get_running_loop().time() + wait_s
        while True:
            batches, behind = await self._look(after)
            left_s = deadline - asyncio.get_running_loop().time()
            if batches or left_s <= 0:
                self._looks_in_vain = 0 if batches else self._looks_in_vain
                return batches, behind
            await asyncio.sleep(min(_pause_s(self._looks_in_vain), left_s))
            self._looks_in_vain += 1

    async def _look(self, after: Place) -> tuple[list[Batch], Place]:
        """What the workflow has after a place, of the newest attempt."""
        (newest, offset), batches = after, list[Batch]()
        while True:
            found = await self._query(offset)
            for item in found.items:
                attempt = int(item.topic)
                if attempt > newest:
                    newest, batches = attempt, []
                if attempt == newest:  # a lost worker may still publish for its own
                    payload = Payload.FromString(base64.b64decode(item.data))
                    batches.append(self._converter.from_payload(payload, Batch))
            offset = found.next_offset
            if not found.more_ready:
                return batches, (newest, offset)

    async def _query(self, offset: int) -> PollResult:
        try:
            found: PollResult = await self._handle.query(
                STREAM_QUERY, PollInput(from_offset=offset), result_type=PollResult, rpc_timeout=_QUERY
            )
        except (RPCError, WorkflowQueryFailedError) as error:
            raise OSError(f"no worker has answered a query: {type(error).__name__}") from None
        return found


def _pause_s(times: int) -> float:
    return min(FIRST_S * GROWTH ** min(times, 100), LONGEST_S)
