"""The ledger as the workflow keeps it: an entry is opened for each attempt and closed when the attempt has ended."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime

from durable_llm.contract.categories import Action, Category, Outcome
from durable_llm.contract.control import Told
from durable_llm.contract.facts import FailureFacts
from durable_llm.contract.ledger import LAST_INTERVENTIONS, Attempt, Intervention, Ledger, bounded, bounded_entries
from durable_llm.contract.result import Answer

from .policy.decide import Decision


class CallLedger:
    """All attempts of one call, and the sums over them."""

    def __init__(
        self,
        on_closed: Callable[[Attempt], None] = lambda _: None,
        before: Ledger | None = None,
        unknown_costs: int = 0,
    ) -> None:
        """A ledger that goes on where `before`, the one of the call's previous run, ended."""
        before = before or Ledger()
        self._on_closed = on_closed
        self.entries = list(before.attempts)
        self.interventions = list(before.interventions)
        self._by_category = Counter(before.attempts_by_category)
        self._cost = before.total_cost
        self.unknown_costs = unknown_costs

    @property
    def last(self) -> Attempt | None:
        """The newest entry, open or closed."""
        return self.entries[-1] if self.entries else None

    @property
    def count(self) -> int:
        """How many attempts the call has made. A ledger that goes on has not all entries of those before it."""
        return self.last.number if self.last else 0

    def open(
        self, *, model: str, spec_index: int, try_number: int, now: datetime, resumes: str | None = None
    ) -> Attempt:
        """Open an entry for an attempt that starts now.

        With `resumes` it follows the response of the attempt before it; its own cost then covers that attempt's.
        """
        self.unknown_costs -= resumes is not None
        entry = Attempt(
            number=self.count + 1, model=model, spec_index=spec_index, try_number=try_number, started_at=now,
            response_id=resumes,
        )  # fmt: skip
        self.entries.append(entry)
        return entry

    def queued(self, quota: str | None) -> None:
        """Record the quota that the open attempt waits for."""
        self.entries[-1] = self.entries[-1].model_copy(update={"quota": quota})

    def answered(self, answer: Answer, now: datetime) -> None:
        """Close the entry with an answer."""
        self._close(now, **answer.entry_fields())

    def failed(self, facts: FailureFacts, decision: Decision, now: datetime) -> None:
        """Close the entry with a failure and what the call does next."""
        self._by_category[decision.category] += 1
        self._close(
            now, **facts.entry_fields(), category=decision.category, decision=decision.action, rule=decision.rule,
            delay_reason=decision.reason,
        )  # fmt: skip

    @property
    def waited_s(self) -> float:
        """Seconds that the call has waited since its last attempt."""
        return (self.last.delay_s if self.last else None) or 0.0

    def waits(self, seconds: float) -> None:
        """Record the whole wait after the last attempt."""
        self.entries[-1] = bounded(self.entries[-1].model_copy(update={"delay_s": round(seconds, 3)}))

    def cancelled(self, why: str, now: datetime, decision: Action | None = None) -> None:
        """Close the entry of an open attempt that was cancelled; its cost is unknown."""
        if self.entries and self.entries[-1].outcome is None:
            self._by_category[Category.CANCELLED] += 1
            self._close(now, outcome=Outcome.CANCELLED, category=Category.CANCELLED, rule=why, decision=decision)

    def told(self, action: str, told: Told, now: datetime) -> None:
        """Record what an operator told the call."""
        entry = Intervention(at=now, action=action, by=told.by, why=told.why, after_attempt=self.count)
        self.interventions = [*self.interventions, entry][-LAST_INTERVENTIONS:]

    def report(self) -> Ledger:
        """The ledger for the call's result or error."""
        return Ledger(
            attempts=bounded_entries(self.entries),
            attempts_total=self.count,
            attempts_by_category=dict(self._by_category),
            total_cost=self._cost,
            cost_complete=not self.unknown_costs,
            interventions=self.interventions,
        )

    def _close(self, now: datetime, *, cost: float | None = None, **fields: object) -> None:
        entry = self.entries[-1]
        if fields.get("duration_s") is None and entry.started_at is not None:
            fields["duration_s"] = round((now - entry.started_at).total_seconds(), 3)
        if fields.get("quota") is None:  # nobody reports the quota of an attempt that was lost
            fields.pop("quota", None)
        self._cost += cost or 0.0
        self.unknown_costs += cost is None
        self.entries[-1] = bounded(entry.model_copy(update={**fields, "cost": cost}))
        self._on_closed(self.entries[-1])
