"""An agent of the OpenAI Agents SDK: `python -m tests.adapters.programs.openai_agents_agent JOB_ID`."""

import asyncio
import functools
import json
import os
import sys
import uuid
from typing import Any

from agents import Agent, RunConfig, Runner, function_tool
from openai import APIStatusError
from pydantic import BaseModel
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from durable_llm import Dispatcher, ModelSpec, data_converter
from durable_llm import workflow as llm
from durable_llm.adapters.openai_agents import DurableModel

QUEUE = os.environ["DURABLE_LLM_TASK_QUEUE"]
QUIET = RunConfig(tracing_disabled=True)


class City(BaseModel):
    name: str


async def tell(_: Any, arguments: str) -> str:
    return f"sun in {json.loads(arguments)['city']}"


@function_tool
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
        agent = Agent(name="Agent", model=model, tools=[weather])
        return str((await Runner.run(agent, prompt, run_config=QUIET)).final_output)


async def main(job_id: str) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    async with Dispatcher.connect(task_queue=QUEUE) as dispatcher, dispatcher.job(job_id) as job:
        model = DurableModel(spec(), job.call, stream=job.stream)
        agent = Agent(name="Agent", model=model, tools=[weather])
        result = await Runner.run(agent, "Weather in Oslo?", run_config=QUIET)
        seen["tools"] = [result.final_output, [type(item).__name__ for item in result.new_items]]
        seen["tokens"] = result.raw_responses[-1].usage.input_tokens
        typed = Agent(name="Typed", model=model, output_type=City)
        seen["typed"] = (await Runner.run(typed, "Which city?", run_config=QUIET)).final_output.name
        streamed = Runner.run_streamed(Agent(name="Plain", model=model), "Stream.", run_config=QUIET)
        pieces = [
            event.data.delta async for event in streamed.stream_events()
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
        ]  # fmt: skip
        seen["streamed"] = "".join(pieces)
        try:
            broken = Agent(name="Broken", model=DurableModel(spec("openai/broken"), job.call))
            await Runner.run(broken, "Hi.", run_config=QUIET)
        except APIStatusError as error:
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
