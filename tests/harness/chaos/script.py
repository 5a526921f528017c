"""What the job asks, and how the simulated provider fails.

Each call has models of its own, so that a failure scripted for a model meets that call and no other. Every answer takes
a while, so that requests are open when their worker is killed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from durable_llm import LLMConfig, ModelSpec
from tests.harness.parts.provider import Behavior

TIMEOUT_S: Final = 6.0
"""Of one attempt."""
_TOO_LONG_S: Final = TIMEOUT_S + 2.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What happens to a call before it ends."""

    faults: tuple[tuple[Behavior, ...], ...] = ()
    """How the provider treats the call's first model, its second, ..."""
    streams: bool = False
    ends: str = "answered"


def _fail(status: int, message: str, **fields: Any) -> Behavior:
    return {"type": "fail", "status": status, "message": message, **fields}


def _cut(kind: str) -> Behavior:
    return {"type": "stream_fault", "kind": kind, "after_chunks": 2, "stall_seconds": _TOO_LONG_S}


def _for_ever(behavior: Behavior) -> Behavior:
    return {**behavior, "times": None}


_LIMITED: Final = _fail(429, "Rate limit reached for requests.", retry_after=1.5)
_OVERLOADED: Final = _fail(529, "Overloaded")
_BROKEN: Final = _fail(500, "The server had an error while processing your request.")
_SPENT: Final = _for_ever(_fail(429, "You exceeded your current quota.", code="insufficient_quota"))
_FORBIDDEN: Final = _for_ever(_fail(403, "Your project does not have access to this model."))
_MALFORMED: Final = _for_ever(_fail(400, "tool_use ids were found without tool_result blocks."))

PLANS: Final = (
    Plan(),
    Plan(faults=((_LIMITED,),)),
    Plan(faults=((_BROKEN, _OVERLOADED),)),
    Plan(faults=((_cut("truncate"),),), streams=True),
    Plan(faults=(({"type": "delay", "seconds": _TOO_LONG_S},),)),
    Plan(faults=((_SPENT,), (_LIMITED,))),
    Plan(),
    Plan(faults=((_cut("disconnect"),),), streams=True),
    Plan(faults=((_MALFORMED,),), ends="rejected"),
    Plan(faults=((_LIMITED, _BROKEN),)),
    Plan(),
    Plan(faults=((_cut("stall"),),), streams=True),
    Plan(faults=((_FORBIDDEN,), (_FORBIDDEN,), (_FORBIDDEN,)), ends="exhausted"),
)
"""Taken by the calls in turn."""


def plan(number: int) -> Plan:
    """What happens to the call."""
    return PLANS[number % len(PLANS)]


def call_id(run: str, number: int) -> str:
    """The call's id: the same after each restart of the job."""
    return f"chaos-{run}/call-{number}"


def prompt(run: str, number: int) -> str:
    """What the call asks. Its id lets the checker find the call's requests in the provider's journal."""
    return f"[{call_id(run, number)}] Name a prime above {number}."


def config(number: int, openai: str, anthropic: str) -> LLMConfig:
    """The call's chain, at the simulated provider's addresses.

    Three models: a call that loses three workers in a row at its second model is still answered.
    """
    extra = {"stream": True} if plan(number).streams else {}
    names, bases = ("openai", "anthropic", "openai"), (openai, anthropic, openai)
    specs = [
        ModelSpec(name=f"{provider}/{model}", api_base=base, timeout=TIMEOUT_S)
        for provider, base, model in zip(names, bases, _models(number), strict=True)
    ]
    return LLMConfig(models=[specs[0].model_copy(update={"extra_params": extra}), *specs[1:]])


def behaviors() -> Iterator[Behavior]:
    """Every fault of every plan."""
    return (fault for one in PLANS for faults in one.faults for fault in faults)


def scenario(calls: int) -> list[Behavior]:
    """How the provider treats each model, and how long its answers take: 1 to 3.25 s."""
    faults = [
        {**fault, "match": {"model": model}}
        for number in range(calls)
        for model, faults in zip(_models(number), plan(number).faults, strict=False)
        for fault in faults
    ]
    paces = ({"type": "delay", "seconds": 1 + 0.25 * digit, "match": {"model": f"*{digit}"}} for digit in range(10))
    return [*faults, *map(_for_ever, paces)]


def _models(number: int) -> tuple[str, str, str]:
    return f"gpt-{number}", f"claude-{number}", f"gpt-spare-{number}"
