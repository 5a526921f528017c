"""Temporal's plugin for openai-agents: `python -m benchmarks.contestants.openai_agents_plugin worker | caller`."""

import asyncio
import os
import sys
from datetime import timedelta

from agents import Agent, OpenAIProvider, Runner
from temporalio import workflow
from temporalio.client import Client
from temporalio.openai_agents import ModelActivityParameters, OpenAIAgentsPlugin

from benchmarks.contestants.temporal_part import run_part

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
    await run_part(part, client, QUEUE, Ask, "Name a prime.")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
