"""The agent job: ten calls, some of which need the answers of others.

An ordinary program. It keeps no state of its own and has no code for being restarted: the calls' ids are the same in
each of its lives, so submitting again attaches to what is already there, and the answers that it had are the answers
that it gets. That is also why its later prompts, which quote earlier answers, come out the same.
"""

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path

from durable_llm import Dispatcher, DurableLLMError
from tests.harness.demo import script


class Job:
    """The job and its connection."""

    def __init__(self, dispatcher: Dispatcher, run: str, addresses: dict[str, str]) -> None:
        self._dispatcher = dispatcher
        self._run = run
        self._addresses = addresses

    async def report(self) -> dict[str, str]:
        """Do the work: outline, research, critique, report."""
        outline = await self._ask(1)
        notes = await self._ask_all(range(2, 8), outline)
        gaps = await self._ask(8, *notes)
        text, title = await self._ask_all(range(9, 11), outline, *notes, gaps)
        return {"title": title, "text": text}

    async def _ask_all(self, numbers: range, *earlier: str) -> list[str]:
        return await asyncio.gather(*(self._ask(number, *earlier) for number in numbers))

    async def _ask(self, number: int, *earlier: str) -> str:
        step = script.STEPS[number - 1]
        handle = await self._dispatcher.submit(
            script.config(step, self._addresses),
            script.prompt(self._run, step, list(earlier)),
            call_id=script.call_id(self._run, number),
            session=f"demo-{self._run}",
        )
        print(f"submitted step-{number}", flush=True)
        result = await handle.result()
        print(f"got the answer of step-{number}", flush=True)
        return result.text or ""


async def main(run: str, addresses: dict[str, str], out: Path) -> int:
    """Run the job and write its report to `out`."""
    try:
        async with Dispatcher.connect() as dispatcher:
            report = await Job(dispatcher, run, addresses).report()
    except DurableLLMError as error:
        print(f"the job gives up: {type(error).__name__}: {error}", flush=True)
        return 1
    out.write_text(json.dumps(report, indent=2) + "\n")  # noqa: ASYNC240  # the job is over
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.harness.demo.job", description="The demo's agent job.")
    parser.add_argument("--run", required=True, help="the run's name; the same one attaches to the same calls")
    parser.add_argument("--openai", required=True, help="api_base of the simulated OpenAI")
    parser.add_argument("--anthropic", required=True, help="api_base of the simulated Anthropic")
    parser.add_argument("--out", type=Path, required=True, help="file for the report")
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    bases = {script.OPENAI: given.openai, script.ANTHROPIC: given.anthropic}
    code = asyncio.run(main(given.run, bases, given.out))
    sys.stdout.flush()
    os._exit(code)  # the SDK's threads may abort an interpreter that tears itself down
