"""`Policy`: how patient a call is and what it does about each kind of failure.

The policy travels in the call, with its defaults filled in when it is submitted, so that a worker's upgrade or another
caller's choice never changes what a running call does.
"""

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from durable_llm.contract.categories import Category
from durable_llm.contract.wire import Strict, Wire

MAX_ATTEMPTS_CEILING = 1000
"""Hard ceiling of attempts per call: a call never outgrows one Temporal history."""

RuleAction = Literal["retry", "retry_once", "next", "fail"]
"""What a rule may demand: same model within its budget, same model once, next model, end the call."""


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("expected a duration above zero")
    return value


Duration = Annotated[timedelta, AfterValidator(_positive)]


class PolicyOnWire(Wire):
    """A policy as a worker reads it."""

    preset: Literal["default", "lmi"] = "default"
    """The table of rules: this project's, or the one of lmi (for who compares or migrates)."""
    max_wait: Duration = timedelta(seconds=60)
    """A provider that asks for a longer wait than this is left for the next model, if there is one."""
    max_attempts: Annotated[int, Field(ge=1, le=MAX_ATTEMPTS_CEILING)] = 100
    """Attempts of the whole call, on all models together."""
    backoff_initial: Duration = timedelta(seconds=1)
    """Upper bound of the first backoff; it doubles with each retry on the same model."""
    backoff_cap: Duration = timedelta(seconds=30)
    """Upper bound of every backoff."""
    on_exhausted: Literal["fail", "wait"] = "fail"
    """After the last model: end the call, or wait and go round the chain again until the deadline."""
    on_unknown: Literal["resend", "fail"] = "resend"
    """After a lost worker: ask again (and perhaps pay twice), or end the call."""
    rules: dict[Category, RuleAction] = Field(default_factory=dict)
    """Overrides by category, for example {"permission": "fail"}."""


class Policy(PolicyOnWire, Strict):
    """How patient a call is.

    Raises:
        pydantic.ValidationError: (a ValueError) on an unknown field or category, or a number out of bounds.
    """

    model_config = Strict.model_config

    @model_validator(mode="after")
    def _rules_can_be_obeyed(self) -> Self:
        if Category.CANCELLED in self.rules:
            raise ValueError("rules: 'cancelled' is the caller's own decision and takes no rule")
        if self.backoff_initial > self.backoff_cap:
            raise ValueError("backoff_initial: expected at most backoff_cap")
        return self
