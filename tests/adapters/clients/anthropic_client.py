"""Anthropic's own client."""

import asyncio
import json
import os
from typing import Any

import anthropic

OPTIONS: dict[str, Any] = {"base_url": os.environ["FRONT"], "api_key": "none"}
TOOL = {"name": "weather", "description": "Tell the weather.", "input_schema": {"type": "object", "properties": {}}}


def asking(text: str) -> dict[str, Any]:
    return {"model": "fast", "max_tokens": 100, "messages": [{"role": "user", "content": text}]}


async def main() -> dict[str, Any]:
    seen: dict[str, Any] = {}
    async with anthropic.AsyncAnthropic(**OPTIONS) as client:
        message = await client.messages.create(**asking("Hi."), system="Be brief.")
        seen["message"] = [message.content[0].text, message.stop_reason, message.usage.input_tokens]
        called = await client.messages.create(**asking("Weather in Oslo?"), tools=[TOOL])
        [use] = [block for block in called.content if block.type == "tool_use"]
        result = {"type": "tool_result", "tool_use_id": use.id, "content": f"sun in {use.input['city']}"}
        turns = [
            {"role": "user", "content": "Weather in Oslo?"}, {"role": "assistant", "content": called.content},
            {"role": "user", "content": [result]},
        ]  # fmt: skip
        told = await client.messages.create(model="fast", max_tokens=100, tools=[TOOL], messages=turns)
        seen["tools"] = told.content[0].text
        async with client.messages.stream(**asking("Stream.")) as stream:
            seen["streamed"] = "".join([piece async for piece in stream.text_stream])
            seen["final"] = (await stream.get_final_message()).content[0].text
        try:
            await client.messages.create(**{**asking("Hi."), "model": "broken"})
        except anthropic.APIStatusError as error:
            seen["error"] = [error.status_code, error.body["error"]["type"]]
    with anthropic.Anthropic(**OPTIONS) as blocking:
        seen["blocking"] = blocking.messages.create(**asking("Hi.")).content[0].text
    return seen


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main())))
