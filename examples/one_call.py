"""The smallest program that makes a durable call: `python -m examples.one_call "Name a prime."`.

MODEL and API_BASE in the environment choose the model.
"""

import asyncio
import os
import sys

from durable_llm import Dispatcher, ModelSpec

MODEL = ModelSpec(name=os.environ.get("MODEL", "openai/gpt-4o-mini"), api_base=os.environ.get("API_BASE"))


async def main(question: str) -> None:
    """Ask the model, and print its answer and what it took."""
    async with Dispatcher.connect() as dispatcher:
        result = await dispatcher.call(MODEL, question)
    print(result.text)
    print(f"-- {result.model}, {result.attempts_total} attempt(s), cost in USD: {result.total_cost}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
