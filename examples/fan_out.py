"""A hundred prompts at once: `python -m examples.fan_out JOB_ID`.

All calls run on the workers, whatever becomes of this program. Started again, it attaches to what is running and gets
what has been answered. MODEL and API_BASE in the environment choose the model.
"""

import asyncio
import os
import sys

from durable_llm import CallHandle, Dispatcher, DurableLLMError, ModelSpec

MODEL = ModelSpec(name=os.environ.get("MODEL", "openai/gpt-4o-mini"), api_base=os.environ.get("API_BASE"))
PROMPTS = [f"Is {number} a prime? Answer yes or no." for number in range(100)]


async def main(job_id: str) -> None:
    """Submit every prompt, then print the answers as they come."""
    async with Dispatcher.connect() as dispatcher:
        handles = await asyncio.gather(
            *(dispatcher.submit(MODEL, prompt, call_id=f"{job_id}/{n}") for n, prompt in enumerate(PROMPTS))
        )
        for finished in asyncio.as_completed([answer(handle) for handle in handles]):
            print(await finished, flush=True)


async def answer(handle: CallHandle) -> str:
    """The call's answer in a line, or why there is none: one that fails does not end the others."""
    try:
        return f"{handle.call_id}: {(await handle.result()).text}"
    except DurableLLMError as error:
        return f"{handle.call_id}: {type(error).__name__}: {error}"


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
