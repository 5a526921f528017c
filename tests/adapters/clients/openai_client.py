"""OpenAI's own client: every endpoint of the front that it knows."""

import asyncio
import io
import json
import os
import time
from typing import Any

import openai
from pydantic import BaseModel

HI = [{"role": "user", "content": "Hi."}]
OPTIONS: dict[str, Any] = {"base_url": f"{os.environ['FRONT']}/v1", "api_key": "none"}
TOOL = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


class City(BaseModel):
    name: str


def blocking() -> dict[str, Any]:
    seen: dict[str, Any] = {}
    with openai.OpenAI(**OPTIONS) as client:
        seen["chat"] = client.chat.completions.create(model="fast", messages=HI).choices[0].message.content
        parsed = client.chat.completions.parse(
            model="fast", messages=[{"role": "user", "content": "Which city?"}], response_format=City
        ).choices[0].message.parsed  # fmt: skip
        seen["parsed"] = parsed.name
        pieces = client.chat.completions.create(model="fast", messages=stream_of("Stream."), stream=True)
        seen["streamed"] = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
        with client.responses.stream(model="fast", input="Stream.") as stream:
            seen["response streamed"] = "".join(
                event.delta for event in stream if event.type == "response.output_text.delta"
            )
        lines = [
            {"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions",
             "body": {"model": "fast", "messages": [{"role": "user", "content": f"Line {number}."}]}}
            for number in range(3)
        ]  # fmt: skip
        file = client.files.create(file=io.BytesIO("\n".join(map(json.dumps, lines)).encode()), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        while batch.status == "in_progress":
            time.sleep(0.1)
            batch = client.batches.retrieve(batch.id)
        seen["batch"] = [batch.status, len(client.files.content(batch.output_file_id).text.splitlines())]
        seen["models"] = [model.id for model in client.models.list()]
    return seen


def stream_of(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


async def main() -> dict[str, Any]:
    seen: dict[str, Any] = {}
    async with openai.AsyncOpenAI(**OPTIONS) as client:
        key = {"Idempotency-Key": "report/step-3"}
        answers = [await client.chat.completions.create(model="fast", messages=HI, extra_headers=key) for _ in range(2)]
        seen["same"] = answers[0].id == answers[1].id
        first = await client.responses.create(model="fast", input="Hi.")
        second = await client.responses.create(model="fast", input="And?", previous_response_id=first.id)
        seen["response"] = [first.output_text, second.output_text]
        seen["response parsed"] = (
            await client.responses.parse(model="fast", input="Which city?", text_format=City)
        ).output_parsed.name
        called = await client.responses.create(model="fast", input="Weather in Oslo?", tools=[TOOL])
        seen["tool"] = [item.name for item in called.output if item.type == "function_call"]
        later = await client.responses.create(model="fast", input="Hi.", background=True)
        while later.status in ("queued", "in_progress"):
            await asyncio.sleep(0.1)
            later = await client.responses.retrieve(later.id)
        seen["background"] = [later.status, later.output_text]
        vectors = await client.embeddings.create(model="vectors", input=["one", "three"])
        seen["vectors"] = [each.embedding for each in vectors.data]
        try:
            await client.chat.completions.create(model="broken", messages=HI)
        except openai.APIStatusError as error:
            seen["error"] = [error.status_code, error.body["type"]]
    return seen


if __name__ == "__main__":
    print(json.dumps({**asyncio.run(main()), **blocking()}))
