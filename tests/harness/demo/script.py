"""What the job asks, and how the simulated providers fail.

Each step has a primary model of its own, so that a failure scripted for that model meets that step and no other.
"""

from dataclasses import dataclass
from typing import Final

from durable_llm import LLMConfig, ModelSpec
from tests.harness.parts.provider import Behavior

OPENAI: Final = "openai"
ANTHROPIC: Final = "anthropic"

CONTEXT_WINDOW: Final = 2000
"""Tokens that the simulated OpenAI takes; the simulated Anthropic takes all."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One call of the job."""

    number: int
    story: str
    """What happens to it, in words."""
    task: str
    models: tuple[str, ...]
    max_retries: int = 3
    behaviors: tuple[Behavior, ...] = ()
    """How the primary model's provider treats it."""
    pages: int = 0
    """Pages of source text to append to the prompt."""


def _rate_limit(retry_after: float) -> Behavior:
    return {"type": "fail", "status": 429, "retry_after": retry_after, "message": "Rate limit reached for requests."}


def _overload(status: int, times: int) -> Behavior:
    message = "The engine is currently overloaded, please try again later."
    return {"type": "fail", "status": status, "times": times, "message": message}


def _quota() -> Behavior:
    message = "You exceeded your current quota, please check your plan and billing details."
    return {"type": "fail", "status": 429, "code": "insufficient_quota", "message": message}


def _hold(seconds: float) -> Behavior:
    return {"type": "delay", "seconds": seconds}


STEPS: Final = (
    Step(
        number=1, story="plain answer",
        task="Outline a report on how shipping companies recover from storms.",
        models=("openai/gpt-4o-mini",),
    ),
    Step(
        number=2, story="429 with Retry-After",
        task="Which storms hit container shipping hardest?",
        models=("openai/gpt-4o", "anthropic/claude-haiku-4-5"), behaviors=(_rate_limit(2.5),),
    ),
    Step(
        number=3, story="overloaded twice, then recovers",
        task="How do ports decide when to close?",
        models=("openai/gpt-4.1", "anthropic/claude-haiku-4-5"), behaviors=(_overload(503, 2),),
    ),
    Step(
        number=4, story="overloaded until its retries are spent",
        task="What do insurers pay for, and what not?",
        models=("anthropic/claude-sonnet-4-5", "openai/gpt-4.1-mini"), max_retries=1, behaviors=(_overload(529, 2),),
    ),
    Step(
        number=5, story="prompt larger than the primary's context window",
        task="Summarise this port authority's manual.",
        models=("openai/gpt-3.5-turbo", "anthropic/claude-haiku-4-5"), pages=40,
    ),
    Step(
        number=6, story="quota of the account used up",
        task="How long do ships wait after a closure?",
        models=("openai/gpt-4.1-nano", "anthropic/claude-sonnet-4-6"), behaviors=(_quota(),),
    ),
    Step(
        number=7, story="worker killed while its request is open",
        task="How are containers secured in heavy seas?",
        models=("openai/o4-mini", "anthropic/claude-haiku-4-5"), behaviors=(_hold(8.0),),
    ),
    Step(
        number=8, story="job killed while its request is open",
        task="What do these notes leave out?",
        models=("anthropic/claude-opus-4-5", "openai/gpt-5"), behaviors=(_hold(5.0),),
    ),
    Step(
        number=9, story="429 with Retry-After, after the job's restart",
        task="Write the report from the notes.",
        models=("openai/gpt-5-mini", "anthropic/claude-haiku-4-5"), behaviors=(_rate_limit(1.5),),
    ),
    Step(
        number=10, story="plain answer",
        task="Give the report a title.",
        models=("openai/gpt-5-nano",),
    ),
)  # fmt: skip

_PAGE: Final = "When the wind passes 20 m/s the harbour master stops the cranes and tells the pilots. " * 3


def call_id(run: str, number: int) -> str:
    """The step's id: the same after each restart of the job, so that it finds its calls again."""
    return f"demo-{run}/step-{number}"


def config(step: Step, addresses: dict[str, str]) -> LLMConfig:
    """The step's chain, at the simulated providers' addresses."""
    return LLMConfig(
        models=[
            ModelSpec(name=name, api_base=addresses[name.split("/")[0]], max_retries=step.max_retries, timeout=30)
            for name in step.models
        ]
    )


def prompt(run: str, step: Step, earlier: list[str]) -> str:
    """What the step asks. The call's id in it lets the checker find the step's requests in a provider's journal."""
    notes = "".join(f"\n- {text}" for text in earlier)
    source = "".join(f"\nPage {page}: {_PAGE}" for page in range(1, step.pages + 1))
    return f"[{call_id(run, step.number)}] {step.task}{notes}{source}"


def scenario(provider: str) -> list[Behavior]:
    """How the simulated `provider` treats each step whose primary model is its own."""
    return [
        {**behavior, "match": {"model": step.models[0].split("/")[1]}}
        for step in STEPS
        if step.models[0].startswith(f"{provider}/")
        for behavior in step.behaviors
    ]
