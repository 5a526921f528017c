"""A job that has to leave before its call is answered: `python -m tests.harness.leaving_job CALL_ID MODEL QUESTION`.

The call goes on without it. Run again with the same arguments, it attaches to the call and prints the answer. Leaving
takes no more than the end of `async with`: an ordinary program ends with status 0, whatever it was waiting for.
"""

import asyncio
import sys

from durable_llm import Dispatcher

PATIENCE_S = 1.0


async def main(call_id: str, model: str, question: str) -> None:
    """Ask, wait a little, and leave."""
    async with Dispatcher.connect() as dispatcher:
        handle = await dispatcher.submit(model, question, call_id=call_id)
        waiting = asyncio.create_task(handle.result())
        answered, _ = await asyncio.wait([waiting], timeout=PATIENCE_S)
        print(waiting.result().text if answered else f"not answered yet; {call_id} goes on")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python -m tests.harness.leaving_job CALL_ID MODEL QUESTION")
    asyncio.run(main(*sys.argv[1:]))
