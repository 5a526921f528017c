"""What the chaos run's checker counts, and its verdict."""

from collections import Counter
from collections.abc import Iterable
from statistics import median, quantiles

from pydantic import BaseModel

from durable_llm import Outcome
from tests.harness.chaos.recovery import Resumption, UnusedAnswer
from tests.harness.parts.evidence import Case
from tests.harness.parts.rules import Verdict, matched

RESUMED_WITHIN_S = 5.0
"""From the moment that a loss can be known to the next attempt, on a machine that decides at once."""
_STEPS = 3
"""Tasks that workers take until the next attempt: one decides the wait, one ends it, one begins the attempt."""


class Kills(BaseModel):
    """How many were killed."""

    worker: int
    worker_with_requests_open: int
    server: int
    job: int


class Resumed(BaseModel):
    """How soon calls went on whose attempt was lost with its worker; seconds, None where there was no such call."""

    attempts: int
    median_after_kill_s: float | None
    longest_after_kill_s: float | None
    longest_after_notice_s: float | None
    allowed_after_notice_s: float
    """5 s, and what the steps take on a machine that is as busy as this one was."""
    decision_s: float
    """Seconds that a decision took in this run, kills apart: 95 of 100 took less."""


class ChaosVerdict(Verdict):
    """What the checker writes."""

    calls_lost: int
    calls_ended: dict[str, int]
    """By how they ended."""
    attempts: int
    attempts_without_request: int
    attempts_unknown: dict[str, int]
    """Attempts whose outcome the ledgers call unknown, by category."""
    answers_served: int
    answers_paid_again: dict[str, int]
    """Answers beyond the first of their call, by why they were asked for."""
    kills: Kills
    resumed: Resumed
    paid_again: list[UnusedAnswer]


def without_request(case: Case) -> int:
    """Attempts without a request: their workers were killed before it, or no worker took them."""
    made = sum(number is not None for history in case.histories for number in matched(case, history))
    return sum(len(history.tries) for history in case.histories) - made


def unknown(case: Case) -> dict[str, int]:
    """Attempts whose outcome the ledgers call unknown, by category."""
    entries = [entry for history in case.histories for entry in history.ledger]
    return counted(entry.category for entry in entries if entry.outcome == Outcome.UNKNOWN)


def killed(case: Case, killed_busy: int) -> Kills:
    """The kills; `killed_busy` of the workers had requests open."""
    counts = Counter(kill.what for kill in case.kills)
    return Kills(
        worker=counts["worker"], worker_with_requests_open=killed_busy, server=counts["server"], job=counts["job"]
    )


def resumed_in_time(case: Case, resumed: list[Resumption]) -> Resumed:
    """How soon calls went on, and how soon they had to on a machine as busy as this one."""
    decisions = [0.0, 0.0, *(seconds for history in case.histories for seconds in history.decisions_s)]
    decision_s = quantiles(decisions, n=20)[-1]
    after_kill, after_notice = [one.after_kill_s for one in resumed], [one.after_notice_s for one in resumed]
    return Resumed(
        attempts=len(resumed),
        median_after_kill_s=round(median(after_kill), 2) if resumed else None,
        longest_after_kill_s=round(max(after_kill), 2) if resumed else None,
        longest_after_notice_s=round(max(after_notice), 2) if resumed else None,
        allowed_after_notice_s=round(RESUMED_WITHIN_S + _STEPS * decision_s, 2),
        decision_s=round(decision_s, 3),
    )


def counted(values: Iterable[str | None]) -> dict[str, int]:
    """How often each value occurs, the most frequent first; None is nothing to count."""
    return dict(Counter(value for value in values if value is not None).most_common())
