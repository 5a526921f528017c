"""The smallest program that makes a durable call: `python -m examples.one_call MODEL QUESTION`."""

import asyncio
import os
import sys

from durable_llm import Dispatcher, DurableLLMError


async def main(model: str, question: str) -> int:
    """Ask `model`, print its answer and what it took."""
    try:
        async with Dispatcher.connect() as dispatcher:
            result = await dispatcher.call(model, question)
    except DurableLLMError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    cost = f"${result.cost:.6f}" if result.cost is not None else "unknown cost"
    print(result.text)
    print(f"-- {result.model}, {result.attempts_total} attempt(s), {cost}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m examples.one_call MODEL QUESTION")
    code = asyncio.run(main(sys.argv[1], sys.argv[2]))
    sys.stdout.flush()
    os._exit(code)  # the SDK's threads may abort an interpreter that tears itself down
