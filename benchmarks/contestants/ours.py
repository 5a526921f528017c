"""durable-llm's caller. Its worker is `python -m workers`."""

import asyncio
import os

from benchmarks.contestants.caller import PARAMETERS, serve
from durable_llm import Dispatcher, ModelSpec


async def call() -> None:
    """Call as told on stdin."""
    spec = ModelSpec(name="openai/gpt-4o-mini", api_base=os.environ["OPENAI_BASE_URL"], extra_params=PARAMETERS)
    async with Dispatcher.connect() as dispatcher:
        await serve(lambda: dispatcher.call(spec, "Name a prime."))


if __name__ == "__main__":
    asyncio.run(call())
