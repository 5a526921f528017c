"""Whether anybody works on a call that is awaited.

Nobody should wait in silence for a worker that does not exist, or for one that fails the call's task again and again,
for want of a key say. One watch serves all handles of a dispatcher. Thousands may be awaited at once, and what they ask
the server must not slow down the calls themselves: they ask one after the other, each its own description now and
then. A queue's answer serves all its calls for a while; a task that fails is one call's own, and is told once for it.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client, WorkflowExecutionDescription

from durable_llm.client.connection import Rpcs
from durable_llm.client.task_failure import task_failure
from durable_llm.errors import DurableLLMError

logger = logging.getLogger("durable_llm")

POLLER_FRESH: Final = timedelta(seconds=70)
"""A worker polls for a minute at a time; one that has not since then is gone, though the server lists it for longer."""


class WorkerWatch:
    """Watches the task queues of the calls that one dispatcher awaits.

    Args:
        client: The dispatcher's client.
        rpcs: Its RPCs under way.
        warn_after: How long a call is awaited before its queue is looked at; again after POLLER_FRESH at least.
    """

    def __init__(self, client: Client, rpcs: Rpcs, warn_after: timedelta) -> None:
        self._client = client
        self._rpcs = rpcs
        self._delay_s = warn_after.total_seconds()
        self._one_at_a_time = asyncio.Lock()
        self._look_again: dict[str, float] = {}
        """When to ask after a queue's workers again, by queue."""

    async def warn(self, call_id: str, describe: Callable[[], Awaitable[WorkflowExecutionDescription]]) -> None:
        """Tell the log when no worker polls the call's task queue, or none can do its task; runs until cancelled.

        Args:
            call_id: The call that is awaited.
            describe: Asks Temporal for it.
        """
        await asyncio.sleep(self._delay_s)
        told = False
        while True:
            async with self._one_at_a_time:
                with suppress(DurableLLMError):
                    description = await describe()
                    await self._look_at_queue(description.task_queue, call_id)
                    told = told or await self._look_at_task(description)
            await asyncio.sleep(max(self._delay_s, POLLER_FRESH.total_seconds()))

    async def has_workers(self, task_queue: str) -> bool | None:
        """Whether somebody has polled the queue lately; None where the server does not tell."""
        request = DescribeTaskQueueRequest(
            namespace=self._client.namespace,
            task_queue=TaskQueue(name=task_queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
        try:
            told = await self._rpcs.run(self._client.workflow_service.describe_task_queue(request))
        except DurableLLMError:
            return None
        since = datetime.now(UTC) - POLLER_FRESH
        return any(poller.last_access_time.ToDatetime(tzinfo=UTC) >= since for poller in told.pollers)

    async def task_failure(self, description: WorkflowExecutionDescription) -> str | None:
        """What a worker said that failed the call's present task; None where none did, or the server does not tell."""
        with suppress(DurableLLMError):
            return await self._rpcs.run(task_failure(self._client, description))
        return None

    async def _look_at_queue(self, task_queue: str, call_id: str) -> None:
        """Tell that nobody polls the queue, unless another call was the reason to look not long ago."""
        if time.monotonic() < self._look_again.get(task_queue, 0.0):
            return
        self._look_again[task_queue] = time.monotonic() + POLLER_FRESH.total_seconds()
        if await self.has_workers(task_queue) is False:
            logger.warning(
                "call %r waits: no worker polls task queue %r of namespace %r; start one with 'python -m workers' or "
                "'durable-llm worker'", call_id, task_queue, self._client.namespace,
            )  # fmt: skip

    async def _look_at_task(self, description: WorkflowExecutionDescription) -> bool:
        """Tell that workers fail the call's own task; whether there was something to tell."""
        failed = await self.task_failure(description)
        if failed:
            logger.warning(
                "call %r waits: workers fail its task, and Temporal gives it out again: %s", description.id, failed
            )
        return failed is not None
