"""Calls on a Temporal worker of your own, beside its own workflow: `python -m examples.host_worker`.

The plugin adds durable calls to the worker. Callers reach it with `Dispatcher.connect(task_queue="mine")`, or with
`durable-llm call --task-queue mine`.
"""

import asyncio

from temporalio import workflow
from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.worker import Worker

from durable_llm.plugin import DurableLLMPlugin


@workflow.defn
class Greeting:
    """A workflow that has nothing to do with models."""

    @workflow.run
    async def run(self, name: str) -> str:
        """Greet."""
        return f"hello, {name}"


async def main() -> None:
    """Run the worker until Ctrl-C; TEMPORAL_* variables say where Temporal is."""
    settings = ClientConfig.load_client_connect_config()
    settings.setdefault("target_host", "localhost:7233")
    client = await Client.connect(**settings)
    async with Worker(client, task_queue="mine", workflows=[Greeting], plugins=[DurableLLMPlugin()]):
        print("worker ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
