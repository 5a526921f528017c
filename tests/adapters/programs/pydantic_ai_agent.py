"""An agent of pydantic-ai: `python -m tests.adapters.programs.pydantic_ai_agent JOB_ID`."""

import asyncio
import functools
import json
import os
import sys
import uuid
from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelResponse
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from durable_llm import Dispatcher, ModelSpec, data_converter
from durable_llm import workflow as llm
from durable_llm.adapters.pydantic_ai import DurableModel

QUEUE = os.environ["DURABLE_LLM_TASK_QUEUE"]


class City(BaseModel):
    name: str


async def weather(city: str) -> str:
    """Tell the weather."""
    return f"sun in {city}"


def spec(name: str = "openai/gpt-4o-mini") -> ModelSpec:
    return ModelSpec(name=name, api_base=os.environ["API_BASE"], max_retries=0)


@workflow.defn
class AgentInWorkflow:
    """The agent as a workflow: its calls are children on the queue of the calls' workers."""

    @workflow.run
    async def run(self, prompt: str) -> str:
        model = DurableModel(spec(), functools.partial(llm.call, task_queue=QUEUE))
        return (await Agent(model, tools=[weather]).run(prompt)).output


async def main(job_id: str) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    async with Dispatcher.connect(task_queue=QUEUE) as dispatcher, dispatcher.job(job_id) as job:
        model = DurableModel(spec(), job.call, stream=job.stream)
        result = await Agent(model, tools=[weather]).run("Weather in Oslo?")
        responses = [message for message in result.all_messages() if isinstance(message, ModelResponse)]
        seen["tools"] = [result.output, [call.tool_name for call in responses[0].tool_calls]]
        seen["model"], seen["tokens"] = responses[-1].model_name, responses[-1].usage.input_tokens
        seen["typed"] = (await Agent(model, output_type=City).run("Which city?")).output.name
        async with Agent(model).run_stream("Stream.") as streamed:
            pieces = [piece async for piece in streamed.stream_text(delta=True, debounce_by=None)]
        seen["streamed"] = "".join(pieces)
        try:
            await Agent(DurableModel(spec("openai/broken"), job.call)).run("Hi.")
        except ModelHTTPError as error:
            seen["error"] = [error.status_code, error.body["type"]]
        seen["spent"] = job.spent.calls
    client = await Client.connect(os.environ["TEMPORAL_ADDRESS"], data_converter=data_converter())
    runner = UnsandboxedWorkflowRunner()
    async with Worker(client, task_queue=f"{QUEUE}-agents", workflows=[AgentInWorkflow], workflow_runner=runner):
        seen["workflow"] = await client.execute_workflow(
            AgentInWorkflow.run, "Weather in Oslo?", id=f"agent-{uuid.uuid4()}", task_queue=f"{QUEUE}-agents"
        )
    return seen


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1]))))
