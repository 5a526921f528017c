"""Temporal's plugin for openai-agents: `python -m benchmarks.contestants.openai_agents_plugin worker | caller`."""

import asyncio
import os
import sys
from datetime import timedelta
from itertools import count

from agents import Agent, OpenAIProvider, Runner
from temporalio import workflow
from temporalio.client import Client
from temporalio.openai_agents import ModelActivityParameters, OpenAIAgentsPlugin
from temporalio.worker import Worker

from benchmarks.contestants.caller import serve

QUEUE = "openai-agents"


@workflow.defn
class Ask:
    """One question to an agent."""

    @workflow.run
    async def run(self, prompt: str) -> str:
        """Ask it."""
        result = await Runner.run(Agent(name="asker", model="gpt-4o-mini"), input=prompt)
        return str(result.final_output)


async def main(part: str) -> None:
    """Work until killed, or call as told on stdin."""
    plugin = OpenAIAgentsPlugin(
        model_params=ModelActivityParameters(start_to_close_timeout=timedelta(seconds=60)),
        model_provider=OpenAIProvider(use_responses=False),
    )
    client = await Client.connect(os.environ["TEMPORAL_ADDRESS"], plugins=[plugin])
    if part == "worker":
        async with Worker(client, task_queue=QUEUE, workflows=[Ask]):
            print("ready", flush=True)
            await asyncio.Event().wait()
    numbers = count()
    await serve(
        lambda: client.execute_workflow(Ask.run, "Name a prime.", id=f"{QUEUE}-{next(numbers)}", task_queue=QUEUE)
    )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
