"""A plugin as a deployment would write one: validators of every temper, and a tool parser."""

import asyncio
import time

from durable_llm.contract.validation import Candidate, Rejected, tool_call, tool_parser, validator

paused: list[float] = []


@validator("prime")
def prime(candidate: Candidate, *, above: int = 1) -> None:
    """The text is a prime, as a plain function says."""
    number = int(candidate.text or "")
    if number <= above or any(number % divisor == 0 for divisor in range(2, number)):
        raise Rejected(f"{number} is no prime above {above}")


@validator("asserts")
async def asserts(candidate: Candidate, *, word: str) -> None:
    """The text holds a word, as an async function says."""
    await asyncio.sleep(0)
    assert word in (candidate.text or ""), f"{word!r} is missing"


@validator("sees_all")
def sees_all(candidate: Candidate) -> None:
    """All that a validator can see is there."""
    assert candidate.parsed == {"prime": 7}
    assert candidate.messages[0]["content"] == "Name a prime."
    assert (candidate.model, candidate.finish_reason) == ("gpt-4o-mini-2024-07-18", "stop")


@validator("broken")
def broken(candidate: Candidate) -> None:
    """Fails instead of judging."""
    raise KeyError("section")


@validator("leaves")
async def leaves(candidate: Candidate) -> None:
    """Wants to end the process."""
    raise SystemExit(3)


@validator("says_false")
def says_false(candidate: Candidate) -> bool:
    """Its author forgot to raise."""
    return False


@validator("forgets_async")
def forgets_async(candidate: Candidate):
    """A plain function that returns a coroutine."""
    return asserts(candidate, word="x")


@validator("sleeps")
def sleeps(candidate: Candidate) -> None:
    """Blocks its thread."""
    time.sleep(30)


@validator("waits")
async def waits(candidate: Candidate) -> None:
    """Waits for what never comes."""
    await asyncio.Event().wait()


@validator("blocks")
async def blocks(candidate: Candidate, *, seconds: float) -> None:
    """Blocks the loop that all async validators share."""
    time.sleep(seconds)  # noqa: ASYNC251  # the rule under test


def _fails(**parameters: object) -> None:
    raise KeyError("section")


def _sleeps(**parameters: object) -> None:
    time.sleep(30)


@validator("check_fails", check=_fails)
def check_fails(candidate: Candidate) -> None:
    """Its parameters cannot be checked."""


@validator("check_sleeps", check=_sleeps)
def check_sleeps(candidate: Candidate) -> None:
    """Its parameters are never checked."""


@validator("echoes")
def echoes(candidate: Candidate) -> None:
    """Repeats prompt and answer in its reason."""
    raise Rejected(f"{candidate.messages[0]['content']} -> {candidate.text} " + "x" * 5000)


@tool_parser("shouted")
def shouted(text: str, tools: list) -> list:
    """Calls the first tool where the text shouts."""
    return [tool_call(tools[0]["function"]["name"], {"city": text})] if text.isupper() else []


@tool_parser("careless")
async def careless(text: str, tools: list) -> dict:
    """Returns something else."""
    return {"name": "get_weather"}
