"""The agent job: many independent calls under fixed ids, some of which cannot be answered.

It keeps no state: after it was killed it submits the same calls again, and so attaches to what is already there.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from durable_llm import AllModelsExhaustedError, Dispatcher, DurableLLMError, RequestRejectedError
from tests.harness.chaos import script

PROGRESS = "calls have ended"
"""How each line of progress ends."""
_LINES = 10
"""Lines of progress in all."""


class Job:
    """The job, its connection, and how each of its calls has ended so far."""

    def __init__(self, dispatcher: Dispatcher, given: argparse.Namespace) -> None:
        self._dispatcher = dispatcher
        self._given = given
        self.endings: dict[str, str] = {}

    async def work(self) -> None:
        """Make all calls, some at once."""
        numbers = iter(range(self._given.calls))
        await asyncio.gather(*(self._take(numbers) for _ in range(self._given.at_once)))

    async def _take(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            self.endings[script.call_id(self._given.run, number)] = await self._call(number)
            done, calls = len(self.endings), self._given.calls
            if done % max(calls // _LINES, 1) == 0:
                print(f"{done} of {calls} {PROGRESS}", flush=True)

    async def _call(self, number: int) -> str:
        handle = await self._dispatcher.submit(
            script.config(number, self._given.openai, self._given.anthropic),
            script.prompt(self._given.run, number),
            call_id=script.call_id(self._given.run, number),
            session=f"chaos-{self._given.run}",
        )
        try:
            await handle.result()
        except RequestRejectedError:
            return "rejected"
        except AllModelsExhaustedError:
            return "exhausted"
        return "answered"


async def main(given: argparse.Namespace) -> int:
    """Run the job and write how its calls ended."""
    try:
        async with Dispatcher.connect() as dispatcher:
            job = Job(dispatcher, given)
            await job.work()
    except DurableLLMError as error:
        print(f"the job gives up: {type(error).__name__}: {error}", flush=True)
        return 1
    given.out.write_text(json.dumps(job.endings, indent=2) + "\n")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.harness.chaos.job", description="The chaos run's agent job.")
    parser.add_argument("--run", required=True, help="the run's name; the same one attaches to the same calls")
    parser.add_argument("--calls", type=int, required=True, help="how many calls to make")
    parser.add_argument("--at-once", type=int, required=True, help="how many of them at a time")
    parser.add_argument("--openai", required=True, help="api_base of the simulated OpenAI")
    parser.add_argument("--anthropic", required=True, help="api_base of the simulated Anthropic")
    parser.add_argument("--out", type=Path, required=True, help="file for the calls' endings")
    return parser.parse_args()


if __name__ == "__main__":
    code = asyncio.run(main(_arguments()))
    sys.stdout.flush()
    os._exit(code)  # the SDK's threads may abort an interpreter that tears itself down
