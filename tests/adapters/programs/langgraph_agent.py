"""A graph of LangGraph: `python -m tests.adapters.programs.langgraph_agent JOB_ID`."""

import asyncio
import json
import os
import sys
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.prebuilt import create_react_agent
from openai import APIStatusError
from pydantic import BaseModel

from durable_llm import Dispatcher, ModelSpec, sync
from durable_llm.adapters.langchain import ChatDurable

QUEUE = os.environ["DURABLE_LLM_TASK_QUEUE"]


class City(BaseModel):
    name: str


@tool
def weather(city: str) -> str:
    """Tell the weather."""
    return f"sun in {city}"


def spec(name: str = "openai/gpt-4o-mini") -> ModelSpec:
    return ModelSpec(name=name, api_base=os.environ["API_BASE"], max_retries=0)


async def main(job_id: str) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    async with Dispatcher.connect(task_queue=QUEUE) as dispatcher, dispatcher.job(job_id) as job:
        model = ChatDurable(spec(), job.call, stream=job.stream)
        graph = create_react_agent(model, [weather])
        state = await graph.ainvoke({"messages": [("user", "Weather in Oslo?")]})
        answers = [message for message in state["messages"] if isinstance(message, AIMessage)]
        seen["tools"] = [answers[-1].content, [call["name"] for call in answers[0].tool_calls]]
        seen["model"] = answers[-1].response_metadata["model_name"]
        seen["tokens"] = answers[-1].usage_metadata["input_tokens"]
        seen["typed"] = (await model.with_structured_output(City, method="json_schema").ainvoke("Which city?")).name
        seen["streamed"] = "".join([str(piece.content) async for piece in model.astream("Stream.")])
        try:
            await ChatDurable(spec("openai/broken"), job.call).ainvoke("Hi.")
        except APIStatusError as error:
            seen["error"] = [error.status_code, error.body["type"]]
        try:
            await asyncio.to_thread(model.invoke, "Stream.")
        except APIStatusError as error:
            seen["blocking"] = error.body["message"]
        seen["spent"] = job.spent.calls
    return seen


def without_asyncio(job_id: str) -> list[Any]:
    """The same in a program without a loop."""
    with sync.Dispatcher.connect(task_queue=QUEUE) as dispatcher, dispatcher.job(f"{job_id}-sync") as job:
        model = ChatDurable(spec(), job.call)
        state = create_react_agent(model, [weather]).invoke({"messages": [("user", "Weather in Oslo?")]})
        pieces = [str(piece.content) for piece in model.stream("Which city?")]
        try:
            asyncio.run(model.ainvoke("Hi."))
        except APIStatusError as error:
            return [state["messages"][-1].content, "".join(pieces), error.body["message"], job.spent.calls]
    return []


if __name__ == "__main__":
    found = asyncio.run(main(sys.argv[1]))
    print(json.dumps({**found, "sync": without_asyncio(sys.argv[1])}))
