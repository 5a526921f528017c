"""The pace of a quota: what is declared, what providers say, what fails, and how it opens again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_llm.contract.categories import Category
from durable_llm.contract.facts import FailureFacts
from durable_llm.contract.quotas import Outcomes, QuotaLimits, QuotaReport
from workflows.policy.quota import (
    FAILURES_TO_CLOSE,
    FIRST_PROBE_S,
    LONGEST_PROBE_S,
    QUIET_S,
    RECOVERY_S,
    QuotaState,
    observe,
    pass_time,
    rate_of,
)
from workflows.policy.versions import CURRENT, VERSIONS

REQUESTS = QuotaLimits(requests_per_minute=300)
DOWN = FailureFacts(http_status=503, text="Service unavailable")
LIMITED = FailureFacts(http_status=429, error_code="rate_limit_exceeded", text="Rate limit reached")
BEGAN = 1_000_000.0


def category(facts: FailureFacts) -> Category:
    """The policy's own judgement."""
    return VERSIONS[CURRENT].classify(facts).category


class Fleet:
    """A quota, told what happens at which second."""

    def __init__(self, limits: QuotaLimits = REQUESTS, jitter: float = 0.0) -> None:
        self.limits, self.jitter = limits, jitter
        self.state = pass_time(QuotaState(), limits, BEGAN)

    def report(self, at_s: float, *failures: FailureFacts | None, **seen: float) -> None:
        outcomes = [Outcomes(failure=failure) for failure in failures]
        self.state = observe(
            self.state, QuotaReport(outcomes=outcomes, **seen), self.limits, BEGAN + at_s,
            classify=category, jitter=self.jitter,
        )  # fmt: skip

    def per_second(self, at_s: float) -> float | None:
        self.state = pass_time(self.state, self.limits, BEGAN + at_s)
        return rate_of(self.state, self.limits).per_second


def test_a_declared_quota_is_kept_as_it_is() -> None:
    """300 requests a minute are five a second, before anything is known."""
    assert Fleet().per_second(0) == 5
    assert Fleet(QuotaLimits(requests_per_minute=300, tokens_per_minute=60_000)).per_second(0) == 1
    assert Fleet(QuotaLimits(concurrent_requests=3)).per_second(0) is None


def test_tokens_are_reserved_by_estimate_and_settled_by_what_was_used() -> None:
    """The pace follows the tokens of a request, as they were asked for and then as they were counted."""
    fleet = Fleet(QuotaLimits(tokens_per_minute=60_000))
    fleet.report(0, sent=20, reserved_tokens=2000)
    fleet.report(60, *[None] * 20, settled_tokens=-1000)
    assert fleet.per_second(120) == pytest.approx(20)  # 1,000 tokens a second, 50 of them for each request
    fleet.report(121, sent=100, reserved_tokens=20_000)
    assert fleet.per_second(121) < 7  # more was spent than the quota allows, so it is slower than 1,000 / 150
    assert fleet.per_second(180) > 6


def test_a_429_slows_all_down_and_the_pace_comes_back_by_itself() -> None:
    """One 429 and a dozen of the same moment are one reason. It grows until the declared pace is reached."""
    fleet = Fleet()
    fleet.report(0, *[LIMITED] * 12, sent=50)
    slowed = fleet.per_second(0)
    assert slowed == pytest.approx(3.5)
    assert slowed < fleet.per_second(RECOVERY_S) < 5
    assert fleet.per_second(60) == 5


@pytest.mark.parametrize("jitter", [0.0, 1.0])
def test_nothing_starts_before_the_provider_wants_it(jitter: float) -> None:
    """A Retry-After holds all attempts until then, and up to a tenth longer; never shorter."""
    fleet = Fleet(jitter=jitter)
    fleet.report(0, LIMITED.model_copy(update={"retry_after_s": 40.0}))
    assert fleet.per_second(39.9 + jitter * 4) == 0
    assert fleet.per_second(40.1 + jitter * 4) > 0
    assert "asked for 40 s" in fleet.state.hold_reason


def test_an_outage_closes_the_quota_and_one_probe_is_let_through() -> None:
    """Failures in a row close it, probes come less and less often, and the first answer opens it at half of its pace."""
    fleet = Fleet()
    fleet.report(0, *[DOWN] * (FAILURES_TO_CLOSE - 1))
    assert fleet.per_second(0) == 5
    fleet.report(1, DOWN)
    assert fleet.per_second(1) == 1 / FIRST_PROBE_S
    fleet.report(2, *[DOWN] * 10)  # attempts from before the close
    assert fleet.per_second(2) == 1 / FIRST_PROBE_S
    for probe in range(10):
        fleet.report(10 + 40 * probe, DOWN)
    assert fleet.per_second(400) == 1 / LONGEST_PROBE_S
    fleet.report(401, None)
    assert fleet.per_second(401) == 2.5
    assert fleet.per_second(460) == 5


def test_failures_of_requests_say_nothing_about_the_provider() -> None:
    """A refused request is an answer: it neither closes a quota nor keeps it closed."""
    fleet = Fleet()
    refused = FailureFacts(http_status=400, error_code="context_length_exceeded", text="too long")
    fleet.report(0, *[DOWN] * 4, refused, DOWN)
    assert fleet.per_second(0) == 5


def test_the_pace_shrinks_with_what_the_provider_says_is_left() -> None:
    """Others use the account too: at a tenth of the limit, half of the pace. What was said long ago does not count."""
    fleet = Fleet()
    fleet.report(0, None, headroom=0.1)
    assert fleet.per_second(0) == 2.5
    assert fleet.per_second(6) == 5


def test_a_pace_that_was_only_learned_is_forgotten() -> None:
    """Without a declared rate a 429 lowers what was lately sent, and ten quiet minutes later nothing is limited."""
    fleet = Fleet(QuotaLimits(concurrent_requests=100))
    for second in range(30):
        fleet.report(second, sent=10)
    fleet.report(30, LIMITED)
    assert 5 < fleet.per_second(30) < 8
    assert fleet.per_second(31 + QUIET_S) is None


@given(
    st.lists(
        st.tuples(
            st.floats(0, 100), st.lists(st.sampled_from([None, DOWN, LIMITED]), max_size=8), st.integers(0, 50),
            st.floats(0, 1) | st.none(),
        ),
        max_size=30,
    )
)  # fmt: skip
def test_no_history_makes_it_faster_than_declared_or_stops_it_for_good(events: list) -> None:
    """Whatever happens, the pace stays within what is declared, and a quiet hour and an answer open it."""
    fleet, now_s = Fleet(), 0.0
    for passed, failures, sent, headroom in events:
        now_s += passed
        fleet.report(now_s, *failures, sent=sent, headroom=headroom)
        assert 0 <= fleet.per_second(now_s) <= 5
    assert fleet.per_second(now_s + 3600) > 0
    fleet.report(now_s + 3601, None)
    assert fleet.per_second(now_s + 7200) == 5
