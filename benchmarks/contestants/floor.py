"""The floor: a no-op workflow with a no-op activity, on a worker with the same settings as ours.

`python -m benchmarks.contestants.floor worker | caller`
"""

import asyncio
import sys
from datetime import timedelta
from itertools import count

from temporalio import activity, workflow
from temporalio.worker import Worker

from benchmarks.contestants.caller import serve
from durable_llm.client.connection import connect_client
from workers.settings import load_settings
from workers.worker import worker_options

QUEUE = "floor"


@activity.defn
async def noop() -> str:
    """Nothing."""
    return "done"


@workflow.defn
class Floor:
    """One activity that does nothing."""

    @workflow.run
    async def run(self) -> str:
        """Run it."""
        return await workflow.execute_activity(noop, start_to_close_timeout=timedelta(seconds=60))


async def work() -> None:
    """Work until killed."""
    client = await connect_client(wait=timedelta(seconds=30))
    options = worker_options(load_settings())
    async with Worker(client, task_queue=QUEUE, workflows=[Floor], activities=[noop], **options):
        print("ready", flush=True)
        await asyncio.Event().wait()


async def call() -> None:
    """Call as told on stdin."""
    client = await connect_client(wait=timedelta(seconds=30))
    numbers = count()
    await serve(lambda: client.execute_workflow(Floor.run, id=f"floor-{next(numbers)}", task_queue=QUEUE))


if __name__ == "__main__":
    asyncio.run(work() if sys.argv[1] == "worker" else call())
