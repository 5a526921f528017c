"""What calls have used: attempts, waits, tokens and money, counted apart."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from durable_llm.contract.categories import Outcome
from durable_llm.contract.ledger import Attempt
from durable_llm.contract.result import LLMResult
from durable_llm.errors import DurableLLMError


@dataclass(frozen=True, kw_only=True)
class Spending:
    """What one or more calls have used.

    Attributes:
        calls: How many calls.
        attempts: How many requests they made to providers.
        waited_s: Seconds that they waited between attempts.
        prompt_tokens: As far as providers counted them.
        completion_tokens: As far as providers counted them.
        cost: USD, the known part.
        cost_complete: Whether every attempt's cost is known. If not, `cost` is only a part of it.
    """

    calls: int = 0
    attempts: int = 0
    waited_s: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    cost_complete: bool = True

    def __add__(self, other: "Spending") -> "Spending":
        added = {
            field.name: getattr(self, field.name) + getattr(other, field.name)
            for field in dataclasses.fields(self)
            if field.name != "cost_complete"
        }
        return Spending(**added, cost_complete=self.cost_complete and other.cost_complete)


def spent_by(end: LLMResult | DurableLLMError) -> Spending:
    """What one call has used, by its result or the error that it ended with."""
    spent = spent_by_attempts(end.attempts)
    if isinstance(end, DurableLLMError):
        return spent
    return dataclasses.replace(
        spent, attempts=end.attempts_total, cost=end.total_cost, cost_complete=end.cost_complete
    )  # an entry may have been left out


def spent_by_attempts(attempts: Sequence[Attempt]) -> Spending:
    """What one call has used, by its ledger. The cost of an attempt that runs is unknown."""
    billed = [
        entry
        for entry, following in zip(attempts, [*attempts[1:], None], strict=True)
        if not _is_billed_by(following, entry)
    ]
    total = attempts[-1].number if attempts else 0
    usages = [entry.usage for entry in attempts if entry.usage is not None]
    return Spending(
        calls=1,
        attempts=total,
        waited_s=sum(entry.delay_s or 0.0 for entry in attempts),
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        cost=sum(entry.cost or 0.0 for entry in billed),
        cost_complete=len(attempts) == total and all(entry.cost is not None for entry in billed),
    )


def _is_billed_by(following: Attempt | None, lost: Attempt) -> bool:
    """Whether the next attempt follows the background response of a lost one: then its cost covers both."""
    return (
        following is not None
        and lost.outcome == Outcome.UNKNOWN
        and lost.response_id is not None
        and lost.response_id == following.response_id
    )
