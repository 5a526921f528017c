"""A hundred prompts at once: `python -m examples.fan_out JOB_ID`.

All calls run on the workers, whatever becomes of this program. Started again, it attaches to what is running and gets
what has been answered. MODEL and API_BASE in the environment choose the model.
"""

import asyncio
import os
import sys

from durable_llm import Dispatcher, ModelSpec

MODEL = ModelSpec(name=os.environ.get("MODEL", "openai/gpt-4o-mini"), api_base=os.environ.get("API_BASE"))
PROMPTS = [f"Is {number} a prime? Answer yes or no." for number in range(100)]


async def main(job_id: str) -> None:
    """Ask every prompt, and print the answers as they come: one that fails does not end the others."""
    async with Dispatcher.connect() as dispatcher, dispatcher.job(job_id) as job:
        async for each in job.map(MODEL, PROMPTS):
            print(f"{each.index}: {each.result.text if each.result else each.error}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
