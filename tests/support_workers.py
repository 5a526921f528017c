"""A worker inside the test's process: the real call and the real attempt, against any server and any provider."""

import uuid
from contextlib import asynccontextmanager
from datetime import timedelta

from temporalio.worker import Worker

from activities.attempt import ProviderAttempts
from durable_llm import Dispatcher
from tests.conftest import workflow_runner
from tests.support_attempts import ring
from workers.heartbeat_timeout import HeartbeatTimeout
from workflows.llm_call import LLMCall

_BEAT = timedelta(seconds=0.5)


@asynccontextmanager
async def working(client, task_queue: str | None = None, *, heartbeat_timeout_s: float = 10.0):
    """A dispatcher, and a worker behind it."""
    task_queue = task_queue or f"test-{uuid.uuid4()}"
    attempts = ProviderAttempts(ring(), heartbeat_interval=_BEAT)
    running = Worker(
        client,
        task_queue=task_queue,
        workflows=[LLMCall],
        activities=[attempts.provider_attempt],
        interceptors=[HeartbeatTimeout(timedelta(seconds=heartbeat_timeout_s))],
        workflow_runner=workflow_runner(),
        max_heartbeat_throttle_interval=_BEAT,
    )
    async with running, Dispatcher(client, task_queue=task_queue) as dispatcher:
        yield dispatcher
