"""`Policy`: how patient a call is and what it does about each kind of failure.

The policy travels in the call, with its defaults filled in at submit. So an upgrade of the workers never changes what a
running call does.
"""

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from durable_llm.contract.categories import Category
from durable_llm.contract.wire import Strict, Wire

MAX_ATTEMPTS_CEILING = 1000
"""Hard limit of attempts per call: a call always fits one Temporal history."""

RuleAction = Literal["retry", "retry_once", "next", "fail"]
"""What a rule can ask for: same model within its retries, same model once, next model, end the call."""


Duration = Annotated[timedelta, Field(gt=timedelta(0))]
Patience = Annotated[timedelta, Field(ge=timedelta(0))] | None


class PolicyOnWire(Wire):
    """A policy as a worker reads it."""

    preset: Literal["default", "lmi"] = "default"
    """The decision table: this project's, or lmi's, to compare with lmi or to migrate from it."""
    max_wait: Duration = timedelta(seconds=60)
    """If a provider asks for a longer wait than this, the call goes to the next model, if there is one."""
    max_attempts: Annotated[int, Field(ge=1, le=MAX_ATTEMPTS_CEILING)] = 100
    """Attempts of the whole call, on all models together."""
    backoff_initial: Duration = timedelta(seconds=1)
    """Upper bound of the first backoff; it doubles with each retry on the same model."""
    backoff_cap: Duration = timedelta(seconds=30)
    """Upper bound of every backoff."""
    patience: Patience = timedelta(0)
    """How long the call asks its models again, in growing waits, after all have failed and one of them may soon answer:
    rate limits, overloads, server errors, lost connections. 0: not at all. None: until the deadline. The preset "lmi"
    has none."""
    on_exhausted: Literal["fail", "wait", "park"] = "fail"
    """When patience has ended: end the call; wait and start the chain again, until the deadline; or park the call until
    an operator resumes it, who may also give it other models, or the deadline ends it."""
    on_unknown: Literal["resend", "fail"] = "resend"
    """After a lost worker: ask again and perhaps pay twice, or end the call."""
    rules: dict[Category, RuleAction] = Field(default_factory=dict)
    """Overrides by category, for example {"permission": "fail"}."""


class Policy(PolicyOnWire, Strict):
    """How patient a call is.

    Raises:
        pydantic.ValidationError: (a ValueError) on an unknown field or category, or a number out of bounds.
    """

    model_config = Strict.model_config

    patience: Patience = timedelta(minutes=15)

    @model_validator(mode="after")
    def _rules_can_be_obeyed(self) -> Self:
        if Category.BUDGET in self.rules:
            raise ValueError("rules: 'budget' takes no rule; another model would spend what the budget protects")
        if Category.HELD in self.rules:
            raise ValueError("rules: 'held' takes no rule; the operator decides when it ends")
        if Category.CANCELLED in self.rules:
            raise ValueError("rules: 'cancelled' takes no rule; cancelling is the caller's own decision")
        if self.backoff_initial > self.backoff_cap:
            raise ValueError("backoff_initial: expected at most backoff_cap")
        return self
