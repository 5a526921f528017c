"""A worker as a process whose provider plays a script: `python -m tests.support.scripted_worker ADDRESS TASK_QUEUE`.

An attempt at a model whose name begins with "openai/deadly" kills the process, as an answer does that takes all memory;
every other model answers.
"""

import asyncio
import os
import signal
import sys

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from durable_llm.contract.request import AttemptOrder
from durable_llm.contract.result import Answer
from tests.conftest import stage
from tests.support.scripted import answer


def provider(order: AttemptOrder) -> Answer:
    """An answer, or the end of this process."""
    if order.spec.name.startswith("openai/deadly"):
        os.kill(os.getpid(), signal.SIGKILL)
    return answer("7")


async def main(address: str, task_queue: str) -> None:
    """Work until killed."""
    client = await Client.connect(address, data_converter=pydantic_data_converter)
    # No cache: a call whose worker dies is taken by another one at once, and the test is about the deaths.
    async with stage(client, provider, heartbeat_timeout_s=1.0, task_queue=task_queue, max_cached_workflows=0):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
