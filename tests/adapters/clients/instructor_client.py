"""instructor: typed answers over OpenAI's client."""

import asyncio
import json
import os
from typing import Any

import instructor
import openai
from pydantic import BaseModel


class City(BaseModel):
    name: str


async def main() -> dict[str, Any]:
    asked: dict[str, Any] = {
        "model": "fast",
        "response_model": City,
        "messages": [{"role": "user", "content": "Which city?"}],
    }
    base = f"{os.environ['FRONT']}/v1"
    seen: dict[str, Any] = {}
    async with openai.AsyncOpenAI(base_url=base, api_key="none") as client:
        for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON, instructor.Mode.JSON_SCHEMA):
            typed = instructor.from_openai(client, mode=mode)
            seen[mode.value] = (await typed.chat.completions.create(**asked)).name
    with openai.OpenAI(base_url=base, api_key="none") as blocking:
        seen["blocking"] = instructor.from_openai(blocking).chat.completions.create(**asked).name
    return seen


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main())))
