"""An agent that is itself a workflow: `python -m examples.workflow_agent`.

This program is its worker, and the worker of its calls. `temporal workflow start --task-queue agents --type Agent
--input '"What is 6 times 7?"'` starts an agent. Whatever is killed, it goes on where it was. MODEL and API_BASE in the
environment choose the model.
"""

import asyncio
import os
from typing import Any

from temporalio import workflow
from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.worker import Worker

from durable_llm import ModelSpec
from durable_llm import workflow as llm
from durable_llm.plugin import DurableLLMPlugin

MODEL = ModelSpec(name=os.environ.get("MODEL", "openai/gpt-4o-mini"), api_base=os.environ.get("API_BASE"))
NUMBER = {"type": "number"}
MULTIPLY = {
    "name": "multiply",
    "description": "Multiply two numbers.",
    "parameters": {"type": "object", "properties": {"a": NUMBER, "b": NUMBER}, "required": ["a", "b"]},
}
TOOLS = [{"type": "function", "function": MULTIPLY}]


@workflow.defn
class Agent:
    """Lets the model call the tool until it answers in words."""

    @workflow.run
    async def run(self, task: str) -> str | None:
        """Do the task."""
        messages: list[dict[str, Any]] = [{"role": "user", "content": task}]
        while (answer := await llm.call(MODEL, messages, tools=TOOLS)).tool_calls:
            messages.append(answer.message())
            for call in answer.tool_calls:
                factors = call.function.parsed_arguments()
                product = str(factors["a"] * factors["b"])
                messages.append({"role": "tool", "tool_call_id": call.id, "content": product})
        return answer.text


async def main() -> None:
    """Run the worker until Ctrl-C; TEMPORAL_* variables say where Temporal is."""
    settings = ClientConfig.load_client_connect_config()
    settings.setdefault("target_host", "localhost:7233")
    client = await Client.connect(**settings)
    async with Worker(client, task_queue="agents", workflows=[Agent], plugins=[DurableLLMPlugin()]):
        print("worker ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
