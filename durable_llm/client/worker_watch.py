"""Whether any worker can work on an awaited call.

Without this watch a caller would wait in silence for a worker that does not exist, or for workers that all fail the
call's workflow task, for example because they lack its encryption key: Temporal hands such a task out again, and the
reason is in a history that nobody reads. One watch serves all handles of a dispatcher. Thousands may be awaited at
once, so the handles ask the server one after the other, and a queue's answer serves all its calls for a while.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, GetWorkflowExecutionHistoryReverseRequest
from temporalio.client import Client, WorkflowExecutionDescription

from durable_llm.client.connection import Rpcs
from durable_llm.contract.ledger import clip
from durable_llm.errors import DecryptionError, DurableLLMError

logger = logging.getLogger("durable_llm")

POLLER_FRESH: Final = timedelta(seconds=70)
"""A worker polls for a minute at a time. One that has not polled for longer is gone, even if the server lists it."""

SPACING_S: Final = 1.0
"""Seconds between two checks: a few thousand awaited calls must not keep the server busy. What workers do to one call
they mostly do to all, so the first check tells."""

_LAST_EVENTS: Final = 20
_TEXT_BYTES: Final = 500


class WorkerWatch:
    """Watches the task queues of the calls that one dispatcher awaits.

    Args:
        client: The dispatcher's client.
        rpcs: Its open RPCs.
        warn_after: How long a call is awaited before it is checked; it is checked again after POLLER_FRESH or more.
    """

    def __init__(self, client: Client, rpcs: Rpcs, warn_after: timedelta) -> None:
        self._client = client
        self._rpcs = rpcs
        self._delay_s = warn_after.total_seconds()
        self._one_at_a_time = asyncio.Lock()
        self._next_check: dict[str, float] = {}
        """When to ask about a queue's workers again, by queue."""

    async def warn(self, call_id: str, describe: Callable[[], Awaitable[WorkflowExecutionDescription]]) -> None:
        """Log a warning if no worker polls the call's task queue, or if workers fail its task; runs until cancelled.

        Args:
            call_id: The awaited call.
            describe: Asks Temporal about it.
        """
        await asyncio.sleep(self._delay_s)
        warned = False
        while True:
            async with self._one_at_a_time:
                with suppress(DurableLLMError):
                    description = await describe()
                    await self._check_queue(description.task_queue, call_id)
                    if not warned and (failed := await self.task_failure(description)):
                        text = "call %r waits: workers fail its task, and Temporal hands it out again: %s"
                        logger.warning(text, call_id, failed)
                        warned = True
                await asyncio.sleep(SPACING_S)
            await asyncio.sleep(max(self._delay_s, POLLER_FRESH.total_seconds()))

    async def has_workers(self, task_queue: str) -> bool | None:
        """Whether a worker has polled the queue lately; None if the server does not say."""
        request = DescribeTaskQueueRequest(
            namespace=self._client.namespace,
            task_queue=TaskQueue(name=task_queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
        try:
            answer = await self._rpcs.run(self._client.workflow_service.describe_task_queue(request))
        except DurableLLMError:
            return None
        since = datetime.now(UTC) - POLLER_FRESH
        return any(poller.last_access_time.ToDatetime(tzinfo=UTC) >= since for poller in answer.pollers)

    async def task_failure(self, description: WorkflowExecutionDescription) -> str | None:
        """Why a worker failed the call's current task; None if none did, or the server does not say."""
        if description.raw_description.pending_workflow_task.attempt < 2:  # the first attempt: nobody failed it
            return None
        execution = WorkflowExecution(workflow_id=description.id, run_id=description.run_id)
        request = GetWorkflowExecutionHistoryReverseRequest(
            namespace=self._client.namespace, execution=execution, maximum_page_size=_LAST_EVENTS
        )
        try:
            page = await self._rpcs.run(self._client.workflow_service.get_workflow_execution_history_reverse(request))
        except DurableLLMError:
            return None
        for event in page.history.events:
            if event.HasField("workflow_task_failed_event_attributes"):
                failure = event.workflow_task_failed_event_attributes.failure
                try:
                    text = str(await self._client.data_converter.decode_failure(failure))
                except DecryptionError as error:
                    text = error.message
                return clip(" ".join(text.split()), _TEXT_BYTES)
        return None

    async def _check_queue(self, task_queue: str, call_id: str) -> None:
        """Warn that nobody polls the queue, unless another call was the reason to check it not long ago."""
        if time.monotonic() < self._next_check.get(task_queue, 0.0):
            return
        self._next_check[task_queue] = time.monotonic() + POLLER_FRESH.total_seconds()
        if await self.has_workers(task_queue) is False:
            logger.warning(
                "call %r waits: no worker polls task queue %r of namespace %r; start one with 'python -m workers' or "
                "'durable-llm worker'", call_id, task_queue, self._client.namespace,
            )  # fmt: skip
