"""pydantic-ai's durable agent: `python -m benchmarks.contestants.pydantic_ai_agent worker | caller`."""

import asyncio
import os
import sys

from pydantic_ai import Agent
from pydantic_ai.durable_exec.temporal import PydanticAIPlugin, PydanticAIWorkflow, TemporalDurability
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from temporalio import workflow
from temporalio.client import Client

from benchmarks.contestants.temporal_part import run_part

QUEUE = "pydantic-ai"

agent = Agent(
    OpenAIChatModel("gpt-4o-mini", provider=OpenAIProvider()), name="asker", capabilities=[TemporalDurability()]
)


@workflow.defn
class Ask(PydanticAIWorkflow):
    """One question to the agent."""

    __pydantic_ai_agents__ = (agent,)

    @workflow.run
    async def run(self, prompt: str) -> str:
        """Ask it."""
        return str((await agent.run(prompt)).output)


async def main(part: str) -> None:
    """Work until killed, or call as told on stdin."""
    client = await Client.connect(os.environ["TEMPORAL_ADDRESS"], plugins=[PydanticAIPlugin()])
    await run_part(part, client, QUEUE, Ask, "Name a prime.")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
