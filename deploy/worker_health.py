"""Whether Temporal has lately seen the worker of this container poll: the container's health check.

A worker has no port to knock at, and a process that runs may still be cut off. What counts is whether the server gets
to see it, so the server is asked.
"""

import asyncio
import os
import socket
import sys
from datetime import UTC, datetime, timedelta

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.service import RPCError

from durable_llm.client.connection import connect_client
from durable_llm.contract.names import TASK_QUEUE
from durable_llm.errors import DurableLLMError

FRESH = timedelta(seconds=150)
"""A poll lasts a minute when there is nothing to do; twice that and some is a worker that has stopped polling."""


async def last_seen(task_queue: str, host: str) -> datetime | None:
    """When the server last saw a worker on `host` poll for calls."""
    client = await connect_client(wait=timedelta(seconds=5))
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=task_queue),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    )
    told = await client.workflow_service.describe_task_queue(request, timeout=timedelta(seconds=5))
    ours = [poller for poller in told.pollers if poller.identity.endswith(f"@{host}")]  # the SDK's is PID@HOST
    return max((poller.last_access_time.ToDatetime(tzinfo=UTC) for poller in ours), default=None)


async def main() -> str | None:
    """Why the worker is unhealthy, None when it is not."""
    task_queue, host = os.environ.get("DURABLE_LLM_TASK_QUEUE", TASK_QUEUE), socket.gethostname()
    try:
        seen = await last_seen(task_queue, host)
    except (DurableLLMError, RPCError) as error:
        return f"Temporal cannot be asked: {error}"
    if seen is None or datetime.now(UTC) - seen > FRESH:
        return f"the server has not seen a worker on {host} poll {task_queue!r} since {seen or 'its start'}"
    return None


if __name__ == "__main__":
    complaint = asyncio.run(main())
    if complaint:
        print(complaint, file=sys.stderr)  # noqa: T201  # shown by `docker inspect`
    sys.stderr.flush()
    os._exit(1 if complaint else 0)  # the SDK's threads may abort an interpreter that tears itself down
