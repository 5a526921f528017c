"""A loop of attempts as a DBOS workflow, each attempt a step, in the caller's process.

`python -m benchmarks.contestants.dbos_loop NAME`: the variable NAME has the database's URL.
"""

import asyncio
import os
import sys

from dbos import DBOS, DBOSConfig
from openai import APIConnectionError, AsyncOpenAI, InternalServerError, RateLimitError

from benchmarks.contestants.caller import serve

ATTEMPTS = 5

provider = AsyncOpenAI(max_retries=0)


@DBOS.step()
async def attempt(prompt: str) -> str | None:
    """One request. None: it is worth another."""
    try:
        answer = await provider.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": prompt}]
        )
    except (APIConnectionError, InternalServerError, RateLimitError):
        return None
    return str(answer.choices[0].message.content)


@DBOS.workflow()
async def ask(prompt: str) -> object:
    """Attempts until one has an answer."""
    for number in range(ATTEMPTS):
        if (answer := await attempt(prompt)) is not None:
            return answer
        await DBOS.sleep_async(2.0**number)
    raise RuntimeError("no attempt had an answer")


async def main(database: str) -> None:
    """Call as told on stdin."""
    config: DBOSConfig = {"name": "bench", "system_database_url": database, "log_level": "ERROR"}
    DBOS(config=config)
    DBOS.launch()
    await serve(lambda: ask("Name a prime."))


if __name__ == "__main__":
    asyncio.run(main(os.environ[sys.argv[1]]))
