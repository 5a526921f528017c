"""What to do after a failure: a pure function of the verdict, the call's progress and its policy.

It uses no random number and no clock. Which command follows (a timer, an attempt, the end) depends on the wait before
jitter, never on the jitter that the workflow adds. Otherwise a replay with another random number would take another
path.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from pydantic import TypeAdapter

from durable_llm.contract.categories import Action, CallOutcome, Category
from durable_llm.contract.facts import FailureFacts, Sent
from durable_llm.contract.policy import MAX_ATTEMPTS_CEILING, PolicyOnWire, RuleAction

LOST_PER_MODEL: Final = 2
"""How often one model is asked again after lost workers, outside its retries."""

LOST_SPREAD_S: Final = 2.0
KEY_WAIT_S: Final = 2.0
"""Seconds until the next attempt after a worker lacked the encryption key; each further wait doubles."""

LONGEST_KEY_WAIT_S: Final = 60.0
ROUND_SPACING_S: Final = 60.0
"""Minimum seconds between two rounds through the chain."""

Demand = Literal[
    "retry",
    "retry_once",
    "next",
    "fail",
    "resend",
    "resend_all_messages",
    "wait_for_key",
    "wait_for_budget",
    "wait_for_release",
]
"""What a failure asks for, before budgets. `RuleAction` are those that a caller may write."""

_BY_DEMAND: Final[Mapping[Demand, Collection[Category]]] = {
    "retry": (
        Category.RATE_LIMITED, Category.OVERLOADED, Category.SERVER_ERROR, Category.CONNECTION,
        Category.UNUSABLE_ANSWER, Category.BAD_SAMPLE,
    ),
    "retry_once": (Category.TIMEOUT,),
    "next": (
        Category.QUOTA_EXHAUSTED, Category.AUTH, Category.PERMISSION, Category.NOT_FOUND, Category.CONTEXT_WINDOW,
        Category.TOO_LARGE, Category.REFUSED, Category.PROVIDER_LIMIT, Category.LENGTH, Category.MISCONFIGURED,
        Category.UNRECOGNISED,
    ),
    "fail": (Category.INVALID_REQUEST, Category.CANCELLED, Category.BUDGET, Category.HELD),
    "resend": (Category.WORKER_LOST,),
}  # fmt: skip
ACTIONS: Final = {category: demand for demand, categories in _BY_DEMAND.items() for category in categories}
"""What each category asks for, before the caller's own rules."""

_MAY_CLEAR: Final = {
    Category.RATE_LIMITED, Category.OVERLOADED, Category.SERVER_ERROR, Category.CONNECTION, Category.UNUSABLE_ANSWER,
    Category.BAD_SAMPLE, Category.TIMEOUT, Category.QUOTA_EXHAUSTED, Category.WORKER_LOST,
}  # fmt: skip
"""Failures that may be over by the next round through the chain; waiting does not help with the others."""

_SHOULD_RETRY_MAY_OVERRIDE: Final = {Category.PERMISSION, Category.NOT_FOUND, Category.PROVIDER_LIMIT}
"""Where `x-should-retry: true` turns "next model" into "same model"; waiting never helps with the other categories."""


@dataclass(frozen=True)
class Verdict:
    """What a failure is, and the row of the table that says so."""

    category: Category
    rule: str
    demand: Demand | None = None
    """What the row or the preset asks for, if that differs from the category's action."""
    reads_hints: bool = True
    """Whether the provider's wait and its x-should-retry count."""
    final: bool = False
    """Whether the call ends regardless of the caller's own rules."""


@dataclass(frozen=True)
class Progress:
    """Where a call is in its chain. The counters count attempts that have ended, unless they say otherwise."""

    budgets: tuple[int, ...]
    """`max_retries` of each model."""
    spec_index: int = 0
    tries: int = 0
    """Attempts on this model in this round."""
    retries: int = 0
    """How many of them were followed by a retry from the budget."""
    retried: frozenset[Category] = frozenset()
    """Categories that were retried on this model in this round."""
    lost: int = 0
    """Lost workers on this model in this round."""
    drained: int = 0
    """Workers that were drained with this model's request in this round (from version 2 on; before, they are lost)."""
    resent_all_messages: int = 0
    """How often this model was asked again with all messages, outside its retries."""
    without_key: int = 0
    """Attempts on this model in this round whose worker lacked the encryption key."""
    attempts: int = 0
    """All attempts of the call."""
    attempts_before: int = 0
    """How many of them an operator's resumption has forgiven: `max_attempts` counts from there."""
    round: int = 1
    retry_after: dict[int, float] = field(default_factory=dict)
    """Models of this round whose failure may clear: seconds until they may answer again, by their index."""
    failures: dict[int, Category] = field(default_factory=dict)
    """The last failure of each model, by its index (from version 2 on)."""
    skipped: frozenset[int] = frozenset()
    """Models that are left out of this round, because their failure does not clear (from version 2 on)."""
    patience_began_s: float | None = None
    """Seconds that were left until the deadline when all models had failed for the first time (from version 2 on)."""

    @property
    def next_index(self) -> int | None:
        """The next model of this round."""
        following = range(self.spec_index + 1, len(self.budgets))
        return next((index for index in following if index not in self.skipped), None)

    @property
    def has_next(self) -> bool:
        """Whether another model remains in this round."""
        return self.next_index is not None

    def may_go_on(self, policy: PolicyOnWire) -> bool:
        """Whether another attempt is allowed."""
        return self.attempts - self.attempts_before < policy.max_attempts and self.attempts < MAX_ATTEMPTS_CEILING

    @property
    def tries_in_all(self) -> int:
        """Attempts that this model has in this round, as far as is known now."""
        return self.budget + 1 + self.lost + self.drained + self.resent_all_messages + self.without_key

    def at_model(self, index: int) -> "Progress":
        """At the first attempt on another model of this round."""
        return replace(
            self, spec_index=index, tries=0, retries=0, retried=frozenset(), lost=0, drained=0, resent_all_messages=0,
            without_key=0,
        )  # fmt: skip

    @property
    def budget(self) -> int:
        """Retries of this model; in later rounds each model is asked once."""
        return self.budgets[self.spec_index] if self.round == 1 else 0


PROGRESS_ON_WIRE: Final = TypeAdapter(Progress)
"""Progress as JSON, in which form a call carries it into its next run."""


@dataclass(frozen=True)
class Decision:
    """What to do next.

    The workflow waits floor_s + uniform(0, spread_s) seconds; it starts a timer exactly if `waits` is true.
    """

    category: Category
    """What the failure is."""
    action: Action
    rule: str
    reason: str
    progress: Progress
    floor_s: float = 0.0
    spread_s: float = 0.0
    outcome: CallOutcome | None = None
    """How the call ends, if `action` is FAIL."""
    until_woken: bool = False
    """Whether the call waits for a signal instead of a timer."""

    @property
    def waits(self) -> bool:
        """Whether a timer comes before the next attempt."""
        return self.floor_s > 0 or self.spread_s > 0


def decide(
    verdict: Verdict, facts: FailureFacts, progress: Progress, policy: PolicyOnWire, remaining_s: float,
    case_type: "type[Case] | None" = None,
) -> Decision:  # fmt: skip
    """Decide what follows a failed attempt.

    Args:
        verdict: What the failure is.
        facts: What the attempt saw; only the provider's wait and x-should-retry are read here.
        progress: Where the call was before the failed attempt ended.
        policy: The call's policy.
        remaining_s: Seconds until the call's deadline.
        case_type: The ways to continue; None: those of version 1.
    """
    kind = case_type or Case
    case = kind(verdict, facts, kind.count(progress, verdict, facts), policy, remaining_s)
    if not case.progress.may_go_on(policy):
        return case.end("max_attempts", f"all {case.progress.attempts} attempts are used")
    match case.demand():
        case "fail":
            return case.end(case.rule, f"{verdict.category}: the call ends")
        case "next":
            return case.next_model(case.rule, str(verdict.category))
        case "resend":
            return case.resend()
        case "resend_all_messages":
            return case.resend_all_messages()
        case "wait_for_key":
            return case.wait_for_key()
        case "retry_once" if verdict.category in progress.retried:
            return case.next_model("once", f"{verdict.category} again on the same model")
        case _:
            return case.retry()


@dataclass(frozen=True)
class Case:
    """One failure to decide about; each method that returns a Decision is one way to continue."""

    verdict: Verdict
    facts: FailureFacts
    progress: Progress
    policy: PolicyOnWire
    remaining_s: float

    @classmethod
    def count(cls, progress: Progress, verdict: Verdict, facts: FailureFacts) -> Progress:  # noqa: ARG003  # later versions read facts
        """`progress` with the failed attempt counted."""
        without_key = verdict.demand == "wait_for_key"
        return replace(
            progress,
            tries=progress.tries + 1,
            attempts=progress.attempts + 1,
            lost=progress.lost + (verdict.category == Category.WORKER_LOST and not without_key),
            without_key=progress.without_key + without_key,
        )

    @property
    def rule(self) -> str:
        """The row that decides, or the caller's own rule if there is one."""
        own = self.verdict.category in self.policy.rules and not self.verdict.final
        return f"rules: {self.verdict.category}" if own else self.verdict.rule

    @property
    def retry_after_s(self) -> float:
        """Seconds that the provider asked to wait."""
        return (self.facts.retry_after_s or 0.0) if self.verdict.reads_hints else 0.0

    def demand(self) -> Demand:
        """The caller's rule, else the preset's or the table's; x-should-retry chooses between same model and next."""
        category = self.verdict.category
        if self.verdict.final:
            return "fail"
        own: RuleAction | None = self.policy.rules.get(category)
        if own is not None:
            # A lost worker's attempts are never repeated from the retry budget or against `on_unknown`.
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
        """The same model again, from its retries, after backoff or the wait that the provider asked for."""
        category, asked = self.verdict.category, self.retry_after_s
        if self.progress.retries >= self.progress.budget:
            return self.next_model("max_retries", f"{category}, and the model's retries are used")
        if asked > self.policy.max_wait.total_seconds() and self.progress.has_next:
            return self.next_model("max_wait", f"{category}, asked to wait {asked:.0f} s")
        if asked > self.remaining_s:
            return self.next_model("deadline", f"{category}, asked to wait {asked:.0f} s, past the deadline")
        spread = max(self._backoff_bound(), asked / 10)
        if asked + spread > self.remaining_s and self.progress.has_next:
            return self.next_model("deadline", f"{category}, and the wait might pass the deadline")
        source = f"provider asked {asked:g} s ({self.facts.retry_after_source})" if asked else "backoff"
        progress = replace(self.progress, retries=self.progress.retries + 1, retried=self.progress.retried | {category})
        return self._again(f"{category}: {source}", progress, asked, min(spread, self.remaining_s - asked))

    def resend(self) -> Decision:
        """The same model again after a lost worker, outside its retries."""
        resumed = self.facts.resumable is not None
        if self.policy.on_unknown == "fail" and self.facts.request_sent != Sent.NO and not resumed:
            return self.end("on_unknown", "the attempt's outcome is unknown and it must not be paid twice")
        if self.progress.lost > LOST_PER_MODEL:
            return self.next_model(
                "lost-per-model", f"{self.progress.lost} workers were lost with this model's request"
            )
        known = "nothing was sent" if self.facts.request_sent == Sent.NO else "outcome unknown"
        what = "its response continues, following it" if resumed else f"{known}, asking again"
        return self._again(f"{self.verdict.category}: {what}", self.progress, 0.0, LOST_SPREAD_S)

    def resend_all_messages(self) -> Decision:
        """The same model once more, outside its retries: the last request held only part of the conversation."""
        if self.progress.resent_all_messages:
            return self.next_model("once", f"{self.verdict.category} again on the same model")
        progress = replace(self.progress, resent_all_messages=1)
        spread = min(self._backoff_bound(), self.remaining_s)
        return self._again(f"{self.verdict.category}: with all messages", progress, 0.0, spread)

    def wait_for_key(self) -> Decision:
        """The same model again once another worker may have the task; until the deadline, since nothing was sent."""
        doubled = KEY_WAIT_S * 2.0 ** min(self.progress.without_key - 1, 60)
        left = max(self.remaining_s, 0.0)
        floor = min(doubled, LONGEST_KEY_WAIT_S, left)
        reason = "the worker lacks the encryption key that its message names, nothing was sent, asking again"
        return self._again(reason, self.progress, floor, min(floor / 10, left - floor))

    def next_model(self, rule: str, reason: str) -> Decision:
        """The next model. After the last one, the chain again or the end."""
        retry_after = dict(self.progress.retry_after)
        if self.verdict.category in _MAY_CLEAR:
            retry_after[self.progress.spec_index] = self.retry_after_s
        following = self.progress.next_index
        if following is None:
            return self.after_chain(rule, reason, retry_after)
        progress = replace(self.progress.at_model(following), retry_after=retry_after)
        return Decision(self.verdict.category, Action.NEXT, rule, reason, progress)

    def after_chain(self, rule: str, reason: str, retry_after: Mapping[int, float]) -> Decision:
        """All models of this round have failed: the chain again, or the end."""
        if self.policy.on_exhausted == "wait" and retry_after:
            return self._next_round(rule, reason, min(retry_after.values()))
        return self.end(rule, reason)

    def end(self, rule: str, reason: str) -> Decision:
        """The end of the call, or its parking if the policy says so."""
        category, outcome = self.verdict.category, self.outcome()
        parks = self.policy.on_exhausted == "park" and self.progress.attempts < MAX_ATTEMPTS_CEILING
        if parks and outcome == CallOutcome.EXHAUSTED:
            return Decision(category, Action.PARK, rule, reason, self.progress)
        return Decision(category, Action.FAIL, rule, reason, self.progress, outcome=outcome)

    def outcome(self) -> CallOutcome:
        """How the call ends if this failure is its last one."""
        rejected = self.verdict.category == Category.INVALID_REQUEST or self.verdict.final
        return CallOutcome.REJECTED if rejected else CallOutcome.EXHAUSTED

    def _again(self, reason: str, progress: Progress, floor_s: float, spread_s: float) -> Decision:
        return Decision(self.verdict.category, Action.RETRY, self.rule, reason, progress, floor_s, spread_s)

    def _next_round(self, rule: str, reason: str, soonest_s: float) -> Decision:
        """The chain again, after a wait; the rounds spread over the time until the deadline."""
        left = self.policy.max_attempts - self.progress.attempts + self.progress.attempts_before
        rounds_left = max(1.0, left / len(self.progress.budgets))
        doubled = ROUND_SPACING_S * 2.0 ** min(self.progress.round - 1, 20)
        spacing = max(ROUND_SPACING_S, min(doubled, self.remaining_s / rounds_left))
        floor = max(spacing, soonest_s)
        if floor > self.remaining_s:
            return self.end("deadline", f"{reason}; the next round would begin past the deadline")
        following = Progress(
            budgets=self.progress.budgets, attempts=self.progress.attempts,
            attempts_before=self.progress.attempts_before, round=self.progress.round + 1,
            patience_began_s=self.progress.patience_began_s,
        )  # fmt: skip
        reason = f"all models tried ({reason}): round {following.round} of the chain"
        return Decision(self.verdict.category, Action.WAIT, rule, reason, following, floor, floor / 10)

    def _backoff_bound(self) -> float:
        """Full jitter: uniform(0, min(cap, initial * 2^(n-1))) after the n-th failure (AWS Architecture Blog, 2015)."""
        initial, cap = self.policy.backoff_initial.total_seconds(), self.policy.backoff_cap.total_seconds()
        return min(cap, initial * 2.0 ** min(self.progress.retries, 60))
