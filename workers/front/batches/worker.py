"""The part of a front that runs batches: a Temporal worker on a queue of its own."""

from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from .run import BEAT, Batches
from .workflow import LLMBatch

_AT_ONCE = 4
"""Batches that one front runs at once."""


def queue_of(task_queue: str) -> str:
    """The queue where fronts look for batches whose calls go to `task_queue`."""
    return f"{task_queue}-batches"


def batch_worker(client: Client, task_queue: str, batches: Batches) -> Worker:
    """A worker for the batches of the fronts of `task_queue`. When it stops, another front goes on with them."""
    return Worker(
        client, task_queue=queue_of(task_queue), workflows=[LLMBatch], activities=[batches.run],
        workflow_runner=UnsandboxedWorkflowRunner(), max_concurrent_activities=_AT_ONCE,
        max_heartbeat_throttle_interval=BEAT,  # by default the SDK keeps back a heartbeat for 24 of its 30 seconds
    )  # fmt: skip
