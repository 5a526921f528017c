"""The floor: a no-op workflow with a no-op activity, on a worker with the same settings as ours.

`python -m benchmarks.contestants.floor worker | caller`
"""

import asyncio
import sys
from datetime import timedelta

from temporalio import activity, workflow

from benchmarks.contestants.temporal_part import run_part
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


async def main(part: str) -> None:
    """Work until killed, or call as told on stdin."""
    client = await connect_client(wait=timedelta(seconds=30))
    options = worker_options(load_settings())
    await run_part(part, client, QUEUE, Floor, activities=[noop], **options)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
