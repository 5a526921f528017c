"""What to do after a failure: a pure function of the verdict, the call's progress and its policy.

It draws nothing and asks no clock. Which command follows (a timer, an attempt, the end) depends on the wait that was
asked for, never on the jitter that the driver adds: otherwise a replay with another draw would take another path.
"""

from dataclasses import dataclass, field, replace
from typing import Final, Literal

from durable_llm.contract.categories import Action, CallOutcome, Category
from durable_llm.contract.facts import FailureFacts, Sent
from durable_llm.contract.policy import MAX_ATTEMPTS_CEILING, PolicyOnWire, RuleAction

LOST_PER_MODEL: Final = 2
"""Attempts that may be repeated on one model after a lost worker; outside the retry budget."""

LOST_SPREAD_S: Final = 2.0
KEYLESS_DELAY_S: Final = 2.0
"""Seconds before an attempt is made again that met a worker without the encryption key; each wait after it doubles."""

LONGEST_KEYLESS_DELAY_S: Final = 60.0
ROUND_SPACING_S: Final = 60.0
"""Least seconds between two rounds through the chain."""

Demand = Literal["retry", "retry_once", "next", "fail", "resend", "restate", "await_key"]

ACTIONS: Final[dict[Category, Demand]] = {
    Category.RATE_LIMITED: "retry",
    Category.OVERLOADED: "retry",
    Category.SERVER_ERROR: "retry",
    Category.CONNECTION: "retry",
    Category.UNUSABLE_ANSWER: "retry",
    Category.BAD_SAMPLE: "retry",
    Category.TIMEOUT: "retry_once",
    Category.QUOTA_EXHAUSTED: "next",
    Category.AUTH: "next",
    Category.PERMISSION: "next",
    Category.NOT_FOUND: "next",
    Category.CONTEXT_WINDOW: "next",
    Category.TOO_LARGE: "next",
    Category.REFUSED: "next",
    Category.PROVIDER_LIMIT: "next",
    Category.LENGTH: "next",
    Category.MISCONFIGURED: "next",
    Category.INVALID_REQUEST: "fail",
    Category.WORKER_LOST: "resend",
    Category.CANCELLED: "fail",
}
"""What each category demands, before budgets and before the caller's own rules."""

_MAY_CLEAR: Final = {
    Category.RATE_LIMITED, Category.OVERLOADED, Category.SERVER_ERROR, Category.CONNECTION, Category.UNUSABLE_ANSWER,
    Category.BAD_SAMPLE, Category.TIMEOUT, Category.QUOTA_EXHAUSTED, Category.WORKER_LOST,
}  # fmt: skip
"""What may have passed by the next round through the chain; nobody waits for all else."""

_SHOULD_RETRY_MAY_OVERRIDE: Final = {Category.PERMISSION, Category.NOT_FOUND, Category.PROVIDER_LIMIT}
"""Where `x-should-retry: true` turns "next model" into "same model": nowhere that waiting is known not to help."""


@dataclass(frozen=True)
class Verdict:
    """What a failure is, and the row of the table that says so; `demand` where that row or the preset has its own."""

    category: Category
    rule: str
    demand: Demand | None = None
    reads_hints: bool = True
    """Whether the provider's wait and its x-should-retry are obeyed."""
    final: bool = False
    """Whether the call ends, whatever the caller's own rules say."""


@dataclass(frozen=True)
class Progress:
    """Where a call stands in its chain. Every field counts attempts that have ended, unless it says otherwise."""

    budgets: tuple[int, ...]
    """`max_retries` of each model."""
    spec_index: int = 0
    tries: int = 0
    """Attempts on this model in this round."""
    retries: int = 0
    """How many of them were followed by a retry out of the budget."""
    retried: frozenset[Category] = frozenset()
    """What was retried on this model in this round."""
    lost: int = 0
    """Lost workers on this model in this round."""
    restated: int = 0
    """How often this model was asked again, out of no budget, with all messages."""
    keyless: int = 0
    """Attempts on this model in this round whose worker lacked the encryption key."""
    attempts: int = 0
    """All attempts of the call."""
    round: int = 1
    asked: dict[int, float] = field(default_factory=dict)
    """Seconds after which each model that was left in this round may answer again, by its index."""

    @property
    def has_next(self) -> bool:
        """Whether another model remains in this round."""
        return self.spec_index + 1 < len(self.budgets)

    @property
    def budget(self) -> int:
        """Retries that this model gets: in later rounds each model is asked once."""
        return self.budgets[self.spec_index] if self.round == 1 else 0


@dataclass(frozen=True)
class Decision:
    """What to do next.

    The driver waits floor_s + uniform(0, spread_s) seconds; it starts a timer exactly when `waits`.
    """

    action: Action
    rule: str
    reason: str
    progress: Progress
    floor_s: float = 0.0
    spread_s: float = 0.0
    outcome: CallOutcome | None = None
    """How the call ends, when `action` is FAIL."""

    @property
    def waits(self) -> bool:
        """Whether a timer comes before the next attempt."""
        return self.floor_s > 0 or self.spread_s > 0


def decide(
    verdict: Verdict, facts: FailureFacts, progress: Progress, policy: PolicyOnWire, remaining_s: float
) -> Decision:
    """Decide what follows a failed attempt.

    Args:
        verdict: What the failure is.
        facts: What the attempt saw; only the wait and x-should-retry are read here.
        progress: Where the call stands, the failed attempt included in no count yet.
        policy: The call's policy.
        remaining_s: Seconds until the call's deadline.
    """
    progress = _count(progress, verdict)
    case = _Case(verdict, facts, progress, policy, remaining_s)
    if progress.attempts >= min(policy.max_attempts, MAX_ATTEMPTS_CEILING):
        return case.end("max_attempts", f"all {progress.attempts} attempts are used")
    match case.demand():
        case "fail":
            return case.end(case.rule, f"{verdict.category}: the call ends")
        case "next":
            return case.leave(case.rule, str(verdict.category))
        case "resend":
            return case.resend()
        case "restate":
            return case.restate()
        case "await_key":
            return case.await_key()
        case "retry_once" if verdict.category in progress.retried:
            return case.leave("once", f"{verdict.category} again on the same model")
        case _:
            return case.retry()


def _count(progress: Progress, verdict: Verdict) -> Progress:
    keyless = verdict.demand == "await_key"
    return replace(
        progress,
        tries=progress.tries + 1,
        attempts=progress.attempts + 1,
        lost=progress.lost + (verdict.category == Category.WORKER_LOST and not keyless),
        keyless=progress.keyless + keyless,
    )


@dataclass(frozen=True)
class _Case:
    """One failure under judgement."""

    verdict: Verdict
    facts: FailureFacts
    progress: Progress
    policy: PolicyOnWire
    remaining_s: float

    @property
    def rule(self) -> str:
        """The row that decides, or the caller's own rule over it."""
        own = self.verdict.category in self.policy.rules and not self.verdict.final
        return f"rules: {self.verdict.category}" if own else self.verdict.rule

    @property
    def asked_s(self) -> float:
        return (self.facts.retry_after_s or 0.0) if self.verdict.reads_hints else 0.0

    def demand(self) -> Demand:
        """The caller's rule, else the preset's or the table's, with x-should-retry between same model and next."""
        category = self.verdict.category
        if self.verdict.final:
            return "fail"
        own: RuleAction | None = self.policy.rules.get(category)
        if own is not None:
            # A lost worker's attempts are never repeated out of the retry budget, nor against `on_unknown`.
            lost = category == Category.WORKER_LOST and own in ("retry", "retry_once")
            return (self.verdict.demand or "resend") if lost else own
        demand = self.verdict.demand or ACTIONS[category]
        if not self.verdict.reads_hints:
            return demand
        if self.facts.should_retry is False and demand in ("retry", "retry_once"):
            return "next"
        if self.facts.should_retry is True and demand == "next" and category in _SHOULD_RETRY_MAY_OVERRIDE:
            return "retry"
        return demand

    def retry(self) -> Decision:
        if self.progress.retries >= self.progress.budget:
            return self.leave("max_retries", f"{self.verdict.category}, and the model's retries are used")
        asked = self.asked_s
        if asked > self.policy.max_wait.total_seconds() and self.progress.has_next:
            return self.leave("max_wait", f"{self.verdict.category}, asked to wait {asked:.0f} s")
        if asked > self.remaining_s:
            return self.leave("deadline", f"{self.verdict.category}, asked to wait {asked:.0f} s, past the deadline")
        spread = max(self._backoff_bound(), asked / 10)
        if asked + spread > self.remaining_s and self.progress.has_next:
            return self.leave("deadline", f"{self.verdict.category}, and the wait might pass the deadline")
        source = f"provider asked {asked:g} s ({self.facts.retry_after_source})" if asked else "backoff"
        progress = replace(
            self.progress,
            retries=self.progress.retries + 1,
            retried=self.progress.retried | {self.verdict.category},
        )
        spread = min(spread, self.remaining_s - asked)
        return Decision(Action.RETRY, self.rule, f"{self.verdict.category}: {source}", progress, asked, spread)

    def resend(self) -> Decision:
        resumed = self.facts.resumable is not None
        if self.policy.on_unknown == "fail" and self.facts.request_sent != Sent.NO and not resumed:
            return self.end("on_unknown", "the attempt's outcome is unknown and it must not be paid twice")
        if self.progress.lost > LOST_PER_MODEL:
            return self.leave("lost-per-model", f"{self.progress.lost} workers were lost with this model's request")
        known = "nothing was sent" if self.facts.request_sent == Sent.NO else "outcome unknown"
        what = "its response goes on, following it" if resumed else f"{known}, asking again"
        reason = f"{self.verdict.category}: {what}"
        return Decision(Action.RETRY, self.rule, reason, self.progress, 0.0, LOST_SPREAD_S)

    def restate(self) -> Decision:
        """Ask the same model once more, outside its retries: it was asked for less than the whole conversation."""
        if self.progress.restated:
            return self.leave("once", f"{self.verdict.category} again on the same model")
        progress = replace(self.progress, restated=1)
        spread = min(self._backoff_bound(), self.remaining_s)
        return Decision(Action.RETRY, self.rule, f"{self.verdict.category}: with all messages", progress, 0.0, spread)

    def await_key(self) -> Decision:
        """The same model again when another worker may have come: until the deadline, since nothing was sent."""
        doubled = KEYLESS_DELAY_S * 2.0 ** min(self.progress.keyless - 1, 60)
        left = max(self.remaining_s, 0.0)
        floor = min(doubled, LONGEST_KEYLESS_DELAY_S, left)
        reason = "the worker lacks the encryption key that its message names, nothing was sent, asking again"
        return Decision(Action.RETRY, self.rule, reason, self.progress, floor, min(floor / 10, left - floor))

    def leave(self, rule: str, reason: str) -> Decision:
        """Go to the next model; from the last one, round the chain again or to the end."""
        asked = dict(self.progress.asked)
        if self.verdict.category in _MAY_CLEAR:
            asked[self.progress.spec_index] = self.asked_s
        if self.progress.has_next:
            following = Progress(
                budgets=self.progress.budgets,
                spec_index=self.progress.spec_index + 1,
                attempts=self.progress.attempts,
                round=self.progress.round,
                asked=asked,
            )
            return Decision(Action.NEXT, rule, reason, following)
        if self.policy.on_exhausted == "wait" and asked:
            return self._next_round(rule, reason, asked)
        return self.end(rule, reason)

    def end(self, rule: str, reason: str) -> Decision:
        rejected = self.verdict.category == Category.INVALID_REQUEST or self.verdict.final
        outcome = CallOutcome.REJECTED if rejected else CallOutcome.EXHAUSTED
        return Decision(Action.FAIL, rule, reason, self.progress, outcome=outcome)

    def _next_round(self, rule: str, reason: str, asked: dict[int, float]) -> Decision:
        floor = max(self._round_spacing(), min(asked.values()))
        if floor > self.remaining_s:
            return self.end("deadline", f"{reason}; the next round would begin past the deadline")
        following = Progress(
            budgets=self.progress.budgets, attempts=self.progress.attempts, round=self.progress.round + 1
        )
        reason = f"all models tried ({reason}): round {following.round} of the chain"
        return Decision(Action.WAIT, rule, reason, following, floor, floor / 10)

    def _round_spacing(self) -> float:
        """Doubling, but never slower than what spreads the attempts that are left evenly until the deadline."""
        rounds_left = max(1.0, (self.policy.max_attempts - self.progress.attempts) / len(self.progress.budgets))
        doubling = ROUND_SPACING_S * 2.0 ** min(self.progress.round - 1, 20)
        return max(ROUND_SPACING_S, min(doubling, self.remaining_s / rounds_left))

    def _backoff_bound(self) -> float:
        """Full jitter: uniform(0, min(cap, initial * 2^(n-1))) after the n-th failure (AWS Architecture Blog, 2015)."""
        initial, cap = self.policy.backoff_initial.total_seconds(), self.policy.backoff_cap.total_seconds()
        return min(cap, initial * 2.0 ** min(self.progress.retries, 60))
