"""litellm's SDK with an api_base."""

import asyncio
import json
import os
from typing import Any

import litellm

BASE = f"{os.environ['FRONT']}/v1"


def asking(text: str, model: str = "openai/fast") -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": model, "messages": messages, "api_base": BASE, "api_key": "none", "num_retries": 0}


async def main() -> dict[str, Any]:
    seen: dict[str, Any] = {}
    seen["chat"] = (await litellm.acompletion(**asking("Hi."))).choices[0].message.content
    chunks = await litellm.acompletion(**asking("Stream."), stream=True)
    seen["streamed"] = "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])
    response = await litellm.aresponses(model="openai/fast", input="Hi.", api_base=BASE, api_key="none")
    seen["response"] = response.output[0].content[0].text
    vectors = await litellm.aembedding(model="openai/vectors", input=["one"], api_base=BASE, api_key="none")
    seen["vectors"] = [each["embedding"] for each in vectors.data]
    message = await litellm.anthropic.messages.acreate(
        model="anthropic/fast", messages=[{"role": "user", "content": "Hi."}], max_tokens=100,
        api_base=os.environ["FRONT"], api_key="none",
    )  # fmt: skip
    seen["message"] = message["content"][0]["text"]
    try:
        await litellm.acompletion(**asking("Hi.", "openai/broken"))
    except litellm.exceptions.ServiceUnavailableError as error:
        seen["error"] = error.status_code
    seen["blocking"] = litellm.completion(**asking("Hi.")).choices[0].message.content
    return seen


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main())))
