"""How fast a quota's attempts may start: from what is declared, from what providers say, and from what fails.

Pure arithmetic over reports. The declared pace is the ceiling. Below it the pace follows three things:

- Tokens are reserved by estimate when an attempt starts and settled when it ends. The requests a second are the tokens
  a second over the tokens of a request, and less while more was spent than the quota allows.
- A 429 lowers the pace to 0.7 of it, and each five seconds without one raise it by 15 %: additive growth would take an
  hour to reach a large quota again. A wait that the provider asked for stops all attempts until then, and a share of a
  tenth longer, so that no worker is early. Where the provider says that less than a fifth of its limit is left, the
  pace shrinks with what is left.
- After five failures in a row that are the provider's, with no answer between, the quota is closed: one attempt is let
  through as a probe, then one after 5 s, growing to 30 s. The first answer opens it at half of its pace.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from durable_llm.contract.categories import Category
from durable_llm.contract.facts import FailureFacts
from durable_llm.contract.quotas import HARDLY_ANYTHING, QuotaLimits, QuotaReport
from durable_llm.contract.wire import Wire

FAILURES_TO_CLOSE: Final = 5
FIRST_PROBE_S: Final = 5.0
LONGEST_PROBE_S: Final = 30.0
RECOVERY_S: Final = 5.0
"""Seconds without a 429 after which the pace grows."""
QUIET_S: Final = 600.0
"""Seconds without a 429 after which a pace that was only learned is forgotten."""
LONGEST_HOLD_S: Final = 600.0
"""A provider that asks for more is asked again after this; the calls' own policy decides whether they wait."""

_CUT: Final = 0.7
_GROWTH: Final = 1.15
_SLOWEST_SHARE: Final = 0.1
"""Of the declared pace: few attempts were sent, and others use the account."""
_SLOWEST_PER_S: Final = 0.5
"""Where no pace is declared."""
_SHORT_HOLD_S: Final = 1.0
"""Shorter waits are the pace's business."""
_LOW_HEADROOM: Final = 0.2
_HEADROOM_LASTS_S: Final = 5.0
_TOKENS_BEFORE_ANY: Final = 1000.0
"""Tokens of a request, until one has been seen."""
_BURST_S: Final = 5.0
"""Seconds of tokens that may be saved up."""

_DOWN: Final = frozenset({Category.OVERLOADED, Category.SERVER_ERROR, Category.CONNECTION, Category.TIMEOUT})


class QuotaState(Wire):
    """What is known of a quota. Times are seconds of the epoch."""

    now_s: float = 0.0
    """When the state was last brought up to date."""
    pace: float | None = None
    """Attempts a second, after 429s. None: the declared ones."""
    slowed_at_s: float = 0.0
    """When a 429 last lowered the pace, or five seconds without one raised it."""
    limited_at_s: float = 0.0
    """When the last 429 came."""
    held_until_s: float = 0.0
    hold_reason: str = ""
    failures: int = 0
    """The provider's failures since its last answer."""
    probe_s: float | None = None
    """Seconds between probes. None: the quota is open."""
    probed_at_s: float = 0.0
    last_failure: str = ""
    tokens_per_request: float | None = None
    """As estimated when attempts start."""
    saved_tokens: float = 0.0
    """Tokens that were not used, up to five seconds of them; below zero: more was used than the quota allows."""
    settled_share: float = 1.0
    """Real tokens of a request by estimated ones."""
    headroom: float = 1.0
    headroom_at_s: float = 0.0
    sent_per_s: float = 0.0
    """Attempts that lately started in a second."""


@dataclass(frozen=True)
class Rate:
    """How fast attempts may start."""

    per_second: float | None
    """0: not at all. None: as fast as they come."""
    reason: str
    changes_in_s: float | None = None
    """When it changes without another report. None: it does not."""


def declared_pace(limits: QuotaLimits, state: QuotaState) -> float | None:
    """Attempts a second that the declared limits allow. None: they allow any number."""
    paces = []
    if limits.requests_per_minute is not None:
        paces.append(limits.requests_per_minute / 60)
    if limits.tokens_per_minute is not None:
        tokens_per_s = limits.tokens_per_minute / 60
        each = max((state.tokens_per_request or _TOKENS_BEFORE_ANY) * state.settled_share, 1.0)
        overspent = max(-state.saved_tokens / (tokens_per_s * _BURST_S), 0.0)
        paces.append(tokens_per_s / each / (1 + overspent))
    return min(paces) if paces else None


def observe(
    state: QuotaState, report: QuotaReport, limits: QuotaLimits, now_s: float, *,
    classify: Callable[[FailureFacts], Category], jitter: float,
) -> QuotaState:  # fmt: skip
    """The state after a report.

    Args:
        state: Before it.
        report: What one worker saw.
        limits: What is declared.
        now_s: Now.
        classify: The policy's judgement of a failure.
        jitter: A random number from 0 to 1, for the end of a wait that the provider asked for.
    """
    state = _with_tokens(pass_time(state, limits, now_s), report)
    if report.headroom is not None:
        state = state.model_copy(update={"headroom": report.headroom, "headroom_at_s": now_s})
        if report.headroom < HARDLY_ANYTHING and declared_pace(limits, state) is None and state.pace is None:
            pace = max(state.sent_per_s * _CUT, _SLOWEST_PER_S)
            state = state.model_copy(update={"pace": pace, "slowed_at_s": now_s, "limited_at_s": now_s})
    for outcomes in report.outcomes:
        if outcomes.failure is None:
            state = _answered(state, limits)
            continue
        category = classify(outcomes.failure)
        if category == Category.RATE_LIMITED:
            state = _limited(state, outcomes.failure, limits, jitter)
        elif category in _DOWN:
            state = _failed(state, outcomes.count, outcomes.failure)
        else:  # an answer all the same: the provider is there
            state = _answered(state, limits)
    return state


def pass_time(state: QuotaState, limits: QuotaLimits, now_s: float) -> QuotaState:
    """The state at a later moment, without a report: tokens come back, and the pace recovers."""
    passed = max(now_s - state.now_s, 0.0) if state.now_s else 0.0
    update: dict[str, float | None] = {"now_s": now_s, "sent_per_s": state.sent_per_s * 0.8**passed}
    if limits.tokens_per_minute is not None:
        per_s = limits.tokens_per_minute / 60
        update["saved_tokens"] = min(state.saved_tokens + passed * per_s, per_s * _BURST_S)
    if state.pace is not None and state.probe_s is None:
        steps = int((now_s - state.slowed_at_s) / RECOVERY_S)
        pace, ceiling = state.pace * _GROWTH**steps, declared_pace(limits, state)
        forgotten = now_s - state.limited_at_s > QUIET_S if ceiling is None else pace >= ceiling
        update["pace"] = None if forgotten else pace
        update["slowed_at_s"] = state.slowed_at_s + steps * RECOVERY_S
    return state.model_copy(update=update)


def rate_of(state: QuotaState, limits: QuotaLimits) -> Rate:
    """How fast attempts may start now."""
    if state.probe_s is not None:
        reason = (
            f"closed after {state.failures} failures in a row ({state.last_failure}); one probe in {state.probe_s:g} s"
        )
        return Rate(1 / state.probe_s, reason)
    left = state.held_until_s - state.now_s
    if left > 0:
        return Rate(0.0, state.hold_reason, left)
    declared = declared_pace(limits, state)
    if state.pace is not None:
        reason = "slowed after a 429; it grows again"
        return _within_headroom(state, min(state.pace, declared or state.pace), reason, RECOVERY_S)
    if declared is None:
        return Rate(None, "open")
    return _within_headroom(state, declared, "as declared", None)


def _within_headroom(state: QuotaState, pace: float, reason: str, changes_in_s: float | None) -> Rate:
    fresh = state.now_s - state.headroom_at_s < _HEADROOM_LASTS_S
    if fresh and state.headroom < _LOW_HEADROOM:
        pace *= max(state.headroom / _LOW_HEADROOM, 0.1)
        reason, changes_in_s = f"the provider says that {state.headroom:.0%} of its limit is left", _HEADROOM_LASTS_S
    return Rate(pace, reason, changes_in_s)


def _with_tokens(state: QuotaState, report: QuotaReport) -> QuotaState:
    update: dict[str, float | None] = {}
    if report.sent:
        each = report.reserved_tokens / report.sent
        known = state.tokens_per_request
        weight = min(report.sent / 20, 1.0)
        update["tokens_per_request"] = each if known is None else known + weight * (each - known)
        update["sent_per_s"] = state.sent_per_s + report.sent * 0.2
    ended = sum(outcomes.count for outcomes in report.outcomes if outcomes.failure is None)
    if ended and (estimate := update.get("tokens_per_request") or state.tokens_per_request):
        share = max(1 + report.settled_tokens / (ended * estimate), 0.01)
        update["settled_share"] = state.settled_share + min(ended / 20, 1.0) * (share - state.settled_share)
    update["saved_tokens"] = state.saved_tokens - report.reserved_tokens - report.settled_tokens
    return state.model_copy(update=update)


def _answered(state: QuotaState, limits: QuotaLimits) -> QuotaState:
    if state.probe_s is None:
        return state.model_copy(update={"failures": 0})
    ceiling = declared_pace(limits, state)
    pace = ceiling / 2 if ceiling is not None else max(state.sent_per_s, 1.0)
    opened = {"failures": 0, "probe_s": None, "pace": pace, "slowed_at_s": state.now_s, "limited_at_s": state.now_s}
    return state.model_copy(update=opened)


def _failed(state: QuotaState, count: int, failure: FailureFacts) -> QuotaState:
    """Close the quota after enough failures. Those of attempts from before the close are no probes."""
    failures, probe_s, probed_at_s = state.failures + count, state.probe_s, state.probed_at_s
    if probe_s is None and failures >= FAILURES_TO_CLOSE:
        probe_s, probed_at_s = FIRST_PROBE_S, state.now_s
    elif probe_s is not None and state.now_s - probed_at_s >= probe_s:
        probe_s, probed_at_s = min(probe_s * 1.5, LONGEST_PROBE_S), state.now_s
    return state.model_copy(
        update={
            "failures": failures, "probe_s": probe_s, "probed_at_s": probed_at_s,
            "last_failure": failure.headline()[:100],
        }
    )  # fmt: skip


def _limited(state: QuotaState, failure: FailureFacts, limits: QuotaLimits, jitter: float) -> QuotaState:
    """Slow down, once for all 429s of the same moment, and hold for as long as the provider asks."""
    now_s, asked = state.now_s, min(failure.retry_after_s or 0.0, LONGEST_HOLD_S)
    update: dict[str, object] = {"limited_at_s": now_s, "failures": 0, "probe_s": None}
    if asked >= _SHORT_HOLD_S:
        until = now_s + asked * (1 + jitter / 10)
        if until > state.held_until_s:
            update |= {
                "held_until_s": until,
                "hold_reason": f"the provider asked for {asked:g} s: {failure.headline()[:80]}",
            }
    if state.pace is None or now_s - state.slowed_at_s >= 1.0:
        declared = declared_pace(limits, state)
        slowest = _SLOWEST_PER_S if declared is None else declared * _SLOWEST_SHARE
        known = [each for each in (state.pace, declared, state.sent_per_s) if each]
        update |= {"pace": max(min(known, default=1.0) * _CUT, slowest), "slowed_at_s": now_s}
    return state.model_copy(update=update)
