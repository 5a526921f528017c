"""A worker inside the test's process: the real call and the real attempt, against any server and any provider."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from temporalio.client import Client
from temporalio.worker import Worker

from activities.attempt import ProviderAttempts
from activities.batch.batches import ProviderBatches
from durable_llm import Dispatcher
from durable_llm.store import Store
from durable_llm.streams import Streams
from tests.conftest import workflow_runner
from tests.support.attempts import ring
from workers.plugin import HeartbeatTimeout
from workflows.batches import LLMBatchCollector, LLMProviderBatch
from workflows.llm_call import LLMCall

QUICK = {"heartbeat_timeout_s": 6.0}
"""Heartbeats for tests that wait for what a heartbeat brings."""


@asynccontextmanager
async def working(
    client: Client, task_queue: str | None = None, *, store: Store | None = None, worker_store: Store | None = None,
    streams: Streams | None = None, heartbeat_timeout_s: float = 60.0, keys: dict | None = None, **attempts,
) -> AsyncIterator[Dispatcher]:  # fmt: skip
    """A dispatcher with `store`, and a worker behind it that asks whatever is on loopback and reads from `worker_store`."""
    task_queue = task_queue or f"test-{uuid.uuid4()}"
    interval = timedelta(seconds=heartbeat_timeout_s / 12)
    made = ProviderAttempts(
        ring(**(keys or {})), heartbeat_interval=interval, store=worker_store, streams=streams, **attempts
    )
    batches = ProviderBatches(made)
    worker = Worker(
        client,
        task_queue=task_queue,
        workflows=[LLMCall, LLMBatchCollector, LLMProviderBatch],
        activities=[made.provider_attempt, batches.send, batches.poll, batches.cancel, batches.settle],
        interceptors=[HeartbeatTimeout(timedelta(seconds=heartbeat_timeout_s))],
        workflow_runner=workflow_runner(),
        max_heartbeat_throttle_interval=interval,
    )
    async with worker, Dispatcher(client, task_queue=task_queue, store=store, streams=streams) as dispatcher:
        yield dispatcher
