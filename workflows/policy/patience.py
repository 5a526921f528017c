"""What follows a failure from policy version 2 on: patience is time, and nothing is paid for twice without need.

Version 1 gives up when its retries are used, seconds into an overload that may last minutes. From version 2 on the call
goes round its models again while one of them may soon answer, until the policy's patience ends. Everything else is as
in `decide`.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from durable_llm.contract.categories import Action, CallOutcome, Category
from durable_llm.contract.facts import FailureFacts, LocalFault

from .decide import Case, Decision, Demand, Progress, Verdict

FIRST_PAUSE_S: Final = 4.0
"""Seconds before the second round. Each further pause doubles."""

LONGEST_PAUSE_S: Final = 60.0

_CLEARS_SOON: Final = {Category.RATE_LIMITED, Category.OVERLOADED, Category.SERVER_ERROR, Category.CONNECTION}
"""Failures that often end within minutes and cost nothing."""

_REJECTS: Final = {Category.INVALID_REQUEST, Category.UNRECOGNISED}


class PatientCase(Case):
    """One failure to decide about, from version 2 on."""

    @classmethod
    def count(cls, progress: Progress, verdict: Verdict, facts: FailureFacts) -> Progress:
        """See base class. A drained worker says nothing about the model and spends nothing."""
        counted = super().count(progress, verdict, facts)
        drained = facts.local_fault == LocalFault.DRAINED
        return replace(
            counted,
            lost=counted.lost - drained,
            drained=counted.drained + drained,
            failures={**progress.failures, progress.spec_index: verdict.category},
        )

    def demand(self) -> Demand:
        """See base class. After a timeout, which may have been paid, the next model is asked at once."""
        demand = super().demand()
        own = self.verdict.category in self.policy.rules
        if self.verdict.category == Category.TIMEOUT and demand == "retry_once" and not own and self.progress.has_next:
            return "next"
        return demand

    def after_chain(self, rule: str, reason: str, retry_after: Mapping[int, float]) -> Decision:
        """The models again that may soon answer, in growing pauses, while patience lasts."""
        soon = {index: wait for index, wait in retry_after.items() if self.progress.failures.get(index) in _CLEARS_SOON}
        began_s = self.progress.patience_began_s
        began_s = self.remaining_s if began_s is None else began_s
        left = self._patience_s() - (began_s - self.remaining_s)
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self.progress.round - 1, 20))
        floor = max(pause, min(soon.values(), default=0.0))
        if not soon or floor >= min(left, self.remaining_s):
            return super().after_chain(rule, reason, retry_after)
        following = Progress(
            budgets=self.progress.budgets, spec_index=min(soon), attempts=self.progress.attempts,
            attempts_before=self.progress.attempts_before, round=self.progress.round + 1,
            failures=self.progress.failures, patience_began_s=began_s,
            skipped=frozenset(range(len(self.progress.budgets))) - set(soon),
        )  # fmt: skip
        until = "until the deadline" if math.isinf(left) else f"for {left:.0f} s more"
        reason = f"all models tried ({reason}): round {following.round}, patience {until}"
        return Decision(self.verdict.category, Action.WAIT, rule, reason, following, floor, floor / 4)

    def outcome(self) -> CallOutcome:
        """See base class. The call is rejected too if every model rejected the request."""
        failures = self.progress.failures
        if all(failures.get(index) in _REJECTS for index in range(len(self.progress.budgets))):
            return CallOutcome.REJECTED
        return super().outcome()

    def _patience_s(self) -> float:
        """Seconds of patience in all."""
        if self.policy.preset == "lmi":
            return 0.0
        patience = self.policy.patience
        return math.inf if patience is None else patience.total_seconds()
