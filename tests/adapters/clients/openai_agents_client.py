"""The OpenAI Agents SDK: Responses, which it asks by default, and chat completions."""

import asyncio
import json
import os
from typing import Any

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from openai.types.responses import ResponseTextDeltaEvent
from pydantic import BaseModel


class City(BaseModel):
    name: str


@function_tool
def weather(city: str) -> str:
    """Tell the weather."""
    return f"sun in {city}"


async def main() -> dict[str, Any]:
    set_tracing_disabled(True)
    client = AsyncOpenAI(base_url=f"{os.environ['FRONT']}/v1", api_key="none")
    seen: dict[str, Any] = {}
    for kind in (OpenAIResponsesModel, OpenAIChatCompletionsModel):
        model = kind("fast", openai_client=client)
        agent = Agent(
            name="agent", instructions="Be brief.", model=model, tools=[weather], model_settings=ModelSettings()
        )
        result = await Runner.run(agent, "Weather in Oslo?")
        typed = await Runner.run(Agent(name="typed", model=model, output_type=City), "Which city?")
        streaming = Runner.run_streamed(Agent(name="plain", model=model), "Stream.")
        text = [
            event.data.delta async for event in streaming.stream_events()
            if event.type == "raw_response_event" and isinstance(event.data, ResponseTextDeltaEvent)
        ]  # fmt: skip
        seen[kind.__name__] = [result.final_output, typed.final_output.name, "".join(text)]
    followed = await Runner.run(
        Agent(name="agent", model=OpenAIResponsesModel("fast", openai_client=client), tools=[weather]),
        "Weather in Oslo?", auto_previous_response_id=True,
    )  # fmt: skip
    seen["conversation"] = followed.final_output
    return seen


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main())))
