"""The floor: a no-op workflow with one no-op activity, on a worker with the same settings as ours.

What a call takes over this is what durable-llm costs. `python -m benchmarks.floor` is its worker.
"""

import asyncio
import os
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.worker import Worker

from durable_llm.client.connection import connect_client
from workers.settings import load_settings
from workers.worker import worker_options

FLOOR_QUEUE = "floor"
FLOOR_WORKFLOW = "Floor"


@activity.defn(name="noop")
async def noop() -> str:
    """Nothing."""
    return "done"


@workflow.defn(name=FLOOR_WORKFLOW)
class Floor:
    """One activity that does nothing."""

    @workflow.run
    async def run(self) -> str:
        """Run it."""
        return await workflow.execute_activity(noop, start_to_close_timeout=timedelta(seconds=60))


async def main() -> None:
    """Work until killed."""
    client = await connect_client(wait=timedelta(seconds=30))
    options = worker_options(load_settings())
    async with Worker(client, task_queue=FLOOR_QUEUE, workflows=[Floor], activities=[noop], **options):
        print(f"worker ready: floor, pid {os.getpid()}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
