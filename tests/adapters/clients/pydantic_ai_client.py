"""pydantic-ai's models for OpenAI: chat completions and Responses."""

import asyncio
import json
import os
from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.messages import ModelResponse
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider


class City(BaseModel):
    name: str


async def weather(city: str) -> str:
    """Tell the weather."""
    return f"sun in {city}"


async def main() -> dict[str, Any]:
    provider = OpenAIProvider(base_url=f"{os.environ['FRONT']}/v1", api_key="none")
    seen: dict[str, Any] = {}
    for name, model in (
        ("chat", OpenAIChatModel("fast", provider=provider)),
        ("responses", OpenAIResponsesModel("fast", provider=provider)),
    ):
        result = await Agent(model, tools=[weather]).run("Weather in Oslo?")
        responses = [message for message in result.all_messages() if isinstance(message, ModelResponse)]
        typed = await Agent(model, output_type=City).run("Which city?")
        async with Agent(model).run_stream("Stream.") as streamed:
            pieces = [piece async for piece in streamed.stream_text(delta=True, debounce_by=None)]
        seen[name] = [
            result.output, [call.tool_name for call in responses[0].tool_calls], typed.output.name, "".join(pieces)
        ]  # fmt: skip
    return seen


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main())))
