"""The two parts of a contestant on Temporal: its worker and its caller. It needs Python and Temporal's SDK."""

import asyncio
from itertools import count
from typing import Any

from temporalio.client import Client
from temporalio.worker import Worker

from benchmarks.contestants.caller import serve


async def run_part(part: str, client: Client, queue: str, workflow: Any, *arguments: Any, **worker: Any) -> None:
    """Work until killed, or call as told on stdin.

    Args:
        part: "worker" or "caller".
        client: The contestant's client.
        queue: Its task queue, and the beginning of its workflows' ids.
        workflow: Its workflow.
        arguments: The workflow's arguments.
        worker: More options of its worker.
    """
    if part == "worker":
        async with Worker(client, task_queue=queue, workflows=[workflow], **worker):
            print("ready", flush=True)
            await asyncio.Event().wait()
    numbers = count()
    await serve(
        lambda: client.execute_workflow(workflow.run, args=arguments, id=f"{queue}-{next(numbers)}", task_queue=queue)
    )
