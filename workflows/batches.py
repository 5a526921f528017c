"""Provider batches: a collector for each account and model pools attempts, and each batch is followed to its end."""

from contextlib import suppress
from datetime import timedelta
from typing import Final

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from durable_llm.contract.facts import LocalFault
    from durable_llm.contract.names import (
        BATCH_WORKFLOW,
        CANCEL_BATCH_ACTIVITY,
        COLLECT_SIGNAL,
        COLLECTOR_WORKFLOW,
        POLL_BATCH_ACTIVITY,
        SEND_BATCH_ACTIVITY,
        SETTLE_BATCH_ACTIVITY,
    )
    from durable_llm.contract.request import BatchLine, SentBatch

MOST_LINES: Final = 500
"""Lines of a batch."""

MOST_BYTES: Final = 1_000_000
"""Bytes of a batch's lines as JSON: Temporal stores payloads of at most 2 MiB."""

_IDLE: Final = timedelta(minutes=10)
"""A collector without lines for this long ends. The next attempt starts it again."""

_FIRST_PAUSE_S: Final = 5.0
_LONGEST_PAUSE_S: Final = 300.0
_SHORT: Final = timedelta(minutes=2)
_LONG: Final = timedelta(minutes=30)
_HEARTBEAT: Final = timedelta(minutes=2)
_SETTLING: Final = timedelta(days=2)


@workflow.defn(name=COLLECTOR_WORKFLOW)
class LLMBatchCollector:
    """Pools the attempts of one account and model."""

    def __init__(self) -> None:
        self._lines: list[BatchLine] = []

    @workflow.signal(name=COLLECT_SIGNAL)
    def collect(self, line: BatchLine) -> None:
        """Take an attempt."""
        self._lines.append(line)

    @workflow.run
    async def run(self) -> None:
        """Send what has been collected, one batch after another, until nothing comes."""
        while True:
            try:
                await workflow.wait_condition(lambda: bool(self._lines), timeout=_IDLE)
            except TimeoutError:
                return
            is_long = workflow.info().is_continue_as_new_suggested()
            if not is_long:
                window = timedelta(seconds=self._lines[0].window_s)
                with suppress(TimeoutError):
                    await workflow.wait_condition(lambda: len(self._lines) >= MOST_LINES, timeout=window)
            await self._send(self._take())
            if is_long and not self._lines:
                workflow.continue_as_new()

    def _take(self) -> list[BatchLine]:
        """The next batch: the first lines that fit."""
        taken: list[BatchLine] = []
        size = 0
        for line in self._lines[:MOST_LINES]:
            size += len(line.model_dump_json())
            if taken and size > MOST_BYTES:
                break
            taken.append(line)
        del self._lines[: len(taken)]
        return taken

    async def _send(self, lines: list[BatchLine]) -> None:
        await workflow.start_child_workflow(
            BATCH_WORKFLOW, lines, id=f"{workflow.info().workflow_id}/{workflow.uuid4()}",
            parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            static_summary=f"{len(lines)} attempts of {lines[0].order.spec.name}",
        )  # fmt: skip


@workflow.defn(name=BATCH_WORKFLOW)
class LLMProviderBatch:
    """One batch at a provider: sent, polled to its end, and its lines given to their attempts."""

    @workflow.run
    async def run(self, lines: list[BatchLine]) -> SentBatch:
        """Follow it. When the last attempt has stopped waiting, the batch is cancelled."""
        sent = await self._sent(lines)
        if sent.batch_id is not None and not await self._ended(lines, sent):
            await workflow.execute_activity(
                CANCEL_BATCH_ACTIVITY, args=[lines[0], sent], start_to_close_timeout=_SHORT,
                retry_policy=RetryPolicy(maximum_attempts=3),
            )  # fmt: skip
            return sent
        await workflow.execute_activity(
            SETTLE_BATCH_ACTIVITY, args=[lines, sent], start_to_close_timeout=_LONG, heartbeat_timeout=_HEARTBEAT,
            schedule_to_close_timeout=_SETTLING, retry_policy=RetryPolicy(maximum_interval=timedelta(minutes=5)),
        )  # fmt: skip
        return sent

    async def _sent(self, lines: list[BatchLine]) -> SentBatch:
        """The request for the batch. A second one could be paid twice, so it is sent once."""
        try:
            sent: SentBatch = await workflow.execute_activity(
                SEND_BATCH_ACTIVITY, lines, result_type=SentBatch, start_to_close_timeout=_LONG,
                heartbeat_timeout=_HEARTBEAT, retry_policy=RetryPolicy(maximum_attempts=1),
            )  # fmt: skip
        except ActivityError as error:
            text = f"the worker was lost while it sent the batch ({type(error.cause).__name__})"
            return SentBatch(fault=LocalFault.LOST, text=text)
        return sent

    async def _ended(self, lines: list[BatchLine], sent: SentBatch) -> bool:
        """Whether the batch ends before the last of its attempts does."""
        until, pause_s = max(line.until for line in lines), _FIRST_PAUSE_S
        while workflow.now() < until:
            await workflow.sleep(pause_s, summary=f"until batch {sent.batch_id} is polled")
            with suppress(ActivityError):  # nobody answered, perhaps the next poll is
                ended: bool = await workflow.execute_activity(
                    POLL_BATCH_ACTIVITY, args=[lines[0], sent], result_type=bool, start_to_close_timeout=_SHORT,
                    retry_policy=RetryPolicy(maximum_attempts=3),
                )  # fmt: skip
                if ended:
                    return True
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
        return False
