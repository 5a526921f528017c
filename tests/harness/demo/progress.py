"""Prints, while the demo runs, a line for each change in a call's ledger."""

import asyncio
from contextlib import suppress

from durable_llm import Action, Attempt, Dispatcher, DurableLLMError, Outcome
from tests.harness.demo import script
from tests.harness.parts.log import Log

POLL_S = 0.3


class Progress(Log):
    """A log that follows each call."""

    async def follow(self, dispatcher: Dispatcher, run: str) -> None:
        """Print what happens to all calls until each has its answer."""
        await asyncio.gather(*(self._follow(dispatcher, run, step.number) for step in script.STEPS))

    async def _follow(self, dispatcher: Dispatcher, run: str, number: int) -> None:
        handle = dispatcher.attach(script.call_id(run, number))
        printed: set[str] = set()
        while True:
            entries: list[Attempt] = []
            with suppress(DurableLLMError):  # the call may not exist yet, and processes are killed
                entries = await handle.attempts()
            for line in [line for entry in entries for line in _lines(entry) if line not in printed]:
                printed.add(line)
                self.say(f"step-{number}: {line}")
            if any(entry.outcome == Outcome.ANSWERED for entry in entries):
                return
            await asyncio.sleep(POLL_S)


def _lines(entry: Attempt) -> list[str]:
    """What is known of an attempt, in words; lines that were printed stay the same."""
    begun = f"attempt {entry.number} asks {entry.model}"
    match entry.outcome:
        case Outcome.ANSWERED:
            return [begun, f"attempt {entry.number} is answered; cost {cost(entry.cost)}"]
        case Outcome.FAILED | Outcome.UNKNOWN if entry.decision is not None:
            return [begun, f"attempt {entry.number} failed: {entry.message}", _consequence(entry)]
        case _:
            return [begun]


def _consequence(entry: Attempt) -> str:
    if entry.decision == Action.NEXT:
        return f"leaves {entry.model}: {entry.delay_reason}"
    if entry.delay_s is not None:
        return f"waits {entry.delay_s:.1f} s after attempt {entry.number}: {entry.delay_reason}"
    return f"decides to {entry.decision} after attempt {entry.number}: {entry.delay_reason}"


def cost(usd: float | None) -> str:
    """A cost in dollars, or that it is unknown."""
    return "unknown" if usd is None else f"${usd:.6f}"
