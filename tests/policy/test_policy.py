"""The pure policy: what a failure is, what the call does, and that no sequence of failures exceeds its budgets."""

import inspect
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable_llm.contract.categories import Action, CallOutcome, Category
from durable_llm.contract.facts import AnswerDefect, FailureFacts, LocalFault, Sent
from durable_llm.contract.policy import Policy
from workflows.policy.decide import ACTIONS, LOST_PER_MODEL, Progress, Verdict, decide
from workflows.policy.rules import RULES_V1
from workflows.policy.versions import CURRENT, VERSIONS, stamped_version

V1 = VERSIONS[1]
DAY = 86_400.0


def category(**facts: object) -> Category:
    """The category of a failure with these facts."""
    return V1.classify(FailureFacts(**facts)).category


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        # our own side first, whatever the wire says
        ({"local_fault": "missing_key", "http_status": 429}, Category.MISCONFIGURED),
        ({"local_fault": "lost"}, Category.WORKER_LOST),
        ({"local_fault": "drained"}, Category.WORKER_LOST),
        ({"local_fault": "undeciphered"}, Category.WORKER_LOST),
        ({"local_fault": "timeout", "http_status": 200}, Category.TIMEOUT),
        ({"local_fault": "connect"}, Category.CONNECTION),
        ({"local_fault": "unsupported"}, Category.PROVIDER_LIMIT),
        # a 200 that is no answer
        ({"http_status": 200, "answer_defect": "empty"}, Category.UNUSABLE_ANSWER),
        ({"http_status": 200, "answer_defect": "refusal"}, Category.REFUSED),
        ({"http_status": 200, "answer_defect": "length"}, Category.LENGTH),
        ({"http_status": 200, "answer_defect": "invalid_tool_arguments"}, Category.BAD_SAMPLE),
        ({"http_status": 200, "answer_defect": "too_few"}, Category.PROVIDER_LIMIT),
        ({"http_status": 502, "answer_defect": "error_body"}, Category.SERVER_ERROR),
        (
            {"http_status": 200, "answer_defect": "error_body", "error_code": "rate_limit_exceeded"},
            Category.RATE_LIMITED,
        ),
        ({"answer_defect": "error_body", "error_code": "server_error"}, Category.SERVER_ERROR),
        # the wire status picks the group
        ({"http_status": 401}, Category.AUTH),
        ({"http_status": 402}, Category.QUOTA_EXHAUSTED),
        ({"http_status": 403}, Category.PERMISSION),
        ({"http_status": 404}, Category.NOT_FOUND),
        ({"http_status": 408}, Category.SERVER_ERROR),
        ({"http_status": 413}, Category.TOO_LARGE),
        ({"http_status": 425}, Category.SERVER_ERROR),
        ({"http_status": 498}, Category.OVERLOADED),
        ({"http_status": 429}, Category.RATE_LIMITED),
        ({"http_status": 400}, Category.INVALID_REQUEST),
        ({"http_status": 418}, Category.INVALID_REQUEST),
        ({"http_status": 500}, Category.SERVER_ERROR),
        ({"http_status": 503}, Category.OVERLOADED),
        ({"http_status": 524}, Category.SERVER_ERROR),
        ({"http_status": 529}, Category.OVERLOADED),
        ({"http_status": 307}, Category.MISCONFIGURED),
        # a 429 is not always a rate limit
        ({"http_status": 429, "error_code": "insufficient_quota"}, Category.QUOTA_EXHAUSTED),
        ({"http_status": 429, "error_code": "billing_not_active"}, Category.QUOTA_EXHAUSTED),
        ({"http_status": 429, "error_details": ["quotaId=GenerateRequestsPerDayPerProject"]}, Category.QUOTA_EXHAUSTED),
        (
            {
                "http_status": 429,
                "error_details": ["quotaId=GenerateRequestsPerMinutePerProject"],
                "text": "You exceeded your current quota, please check your plan and billing details.",
            },
            Category.RATE_LIMITED,
        ),
        ({"http_status": 429, "text": "tokens per day (TPD): Limit 100000"}, Category.QUOTA_EXHAUSTED),
        ({"http_status": 429, "text": "Limit 30000, Requested 30601"}, Category.TOO_LARGE),
        ({"http_status": 429, "text": "Limit 30000000, Used 30000000, Requested 247009"}, Category.RATE_LIMITED),
        # a 400 is many things
        ({"http_status": 400, "error_code": "context_length_exceeded"}, Category.CONTEXT_WINDOW),
        ({"http_status": 400, "text": "prompt is too long: 208310 tokens > 200000 maximum"}, Category.CONTEXT_WINDOW),
        ({"http_status": 400, "text": "API key not valid."}, Category.AUTH),
        ({"http_status": 400, "text": "Your credit balance is too low"}, Category.QUOTA_EXHAUSTED),
        ({"http_status": 400, "error_code": "content_filter"}, Category.REFUSED),
        ({"http_status": 400, "error_code": "tool_use_failed"}, Category.BAD_SAMPLE),
        ({"http_status": 400, "text": "User location is not supported"}, Category.PERMISSION),
        ({"http_status": 400, "text": "The model `x` does not exist"}, Category.NOT_FOUND),
        ({"http_status": 400, "text": "this model does not support images"}, Category.PROVIDER_LIMIT),
        ({"http_status": 400, "text": "Invalid schema for function 'f'"}, Category.INVALID_REQUEST),
        # litellm's class counts only where there was no response
        ({"exception": "RateLimitError"}, Category.RATE_LIMITED),
        ({"exception": "RateLimitError", "http_status": 400, "text": "what is a rate limit"}, Category.INVALID_REQUEST),
        ({}, Category.SERVER_ERROR),
    ],
)
def test_a_failure_is_classified_by_the_order_of_trust(facts: dict, expected: Category) -> None:
    """Our own side, then the 200's defects, then the wire, then litellm's class."""
    assert category(**facts) == expected


def test_the_last_row_fits_everything_and_names_are_unique() -> None:
    """Any facts get a verdict, and a ledger's rule names one row."""
    assert RULES_V1[-1].fits(FailureFacts())
    names = [rule.name for rule in RULES_V1]
    assert len(names) == len(set(names))
    assert all(rule.why for rule in RULES_V1)


def test_every_exception_class_of_litellm_has_a_row() -> None:
    """An upgrade of litellm that adds a class turns this red with its name."""
    import litellm
    import openai

    ours = {name for rule in RULES_V1 for name in rule.exception}
    classes = {
        name for name, value in vars(litellm.exceptions).items()
        if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == "litellm.exceptions"
    }  # fmt: skip
    assert issubclass(litellm.exceptions.APIError, openai.APIError)
    assert not classes - ours, f"no row for {sorted(classes - ours)}"


def test_every_category_has_an_action_and_every_version_a_policy() -> None:
    """Every category has an action, and the newest version is the current one."""
    assert set(ACTIONS) == set(Category)
    assert max(VERSIONS) == CURRENT


def after(
    verdict: Category,
    progress: Progress | None = None,
    *,
    left: float = DAY,
    policy: Policy | None = None,
    **facts: object,
) -> object:
    """The decision after one failure on a chain of two."""
    progress = progress or Progress(budgets=(3, 3))
    return decide(Verdict(verdict, "row"), FailureFacts(**facts), progress, policy or Policy(), left)


@pytest.mark.parametrize(("failure", "bound"), [(0, 1.0), (1, 2.0), (2, 4.0)])
def test_backoff_doubles_up_to_its_cap(failure: int, bound: float) -> None:
    """uniform(0, min(cap, initial * 2^(n-1))) after the n-th failure."""
    progress = Progress(budgets=(99, 3), retries=failure, tries=failure, attempts=failure)
    decision = after(Category.RATE_LIMITED, progress)
    assert (decision.action, decision.floor_s, decision.spread_s) == (Action.RETRY, 0.0, bound)
    late = Progress(budgets=(99, 3), retries=50, tries=50, attempts=50)
    assert after(Category.RATE_LIMITED, late).spread_s == 30.0


def test_a_providers_delay_is_a_floor_with_jitter_that_grows_with_it() -> None:
    """A thousand callers that were asked to wait 30 s do not ask again at the same moment."""
    decision = after(Category.RATE_LIMITED, retry_after_s=30.0)
    assert (decision.action, decision.floor_s, decision.spread_s) == (Action.RETRY, 30.0, 3.0)


def test_a_wait_beyond_max_wait_goes_to_the_next_model_and_is_waited_for_by_the_last() -> None:
    """The next model is better than a long wait, and a long wait is better than no answer."""
    assert after(Category.RATE_LIMITED, retry_after_s=61.0).action == Action.NEXT
    last = Progress(budgets=(3, 3), spec_index=1)
    assert after(Category.RATE_LIMITED, last, retry_after_s=61.0).action == Action.RETRY
    assert after(Category.RATE_LIMITED, last, retry_after_s=DAY + 1).outcome == CallOutcome.EXHAUSTED


def test_a_timeout_is_retried_once() -> None:
    """Same model once, then the next."""
    first = after(Category.TIMEOUT)
    assert first.action == Action.RETRY
    assert after(Category.TIMEOUT, first.progress).action == Action.NEXT


def test_should_retry_decides_only_between_same_model_and_next() -> None:
    """The header never ends a call and never revives what waiting cannot help."""
    assert after(Category.SERVER_ERROR, should_retry=False).action == Action.NEXT
    assert after(Category.NOT_FOUND, should_retry=True).action == Action.RETRY
    assert after(Category.QUOTA_EXHAUSTED, should_retry=True).action == Action.NEXT
    assert after(Category.INVALID_REQUEST, should_retry=True).action == Action.FAIL


def test_the_callers_own_rules_come_first() -> None:
    """`rules={"permission": "fail"}` ends the call, `{"timeout": "next"}` asks nobody twice."""
    assert after(Category.PERMISSION, policy=Policy(rules={"permission": "fail"})).action == Action.FAIL
    assert after(Category.TIMEOUT, policy=Policy(rules={"timeout": "next"})).action == Action.NEXT
    once = Policy(rules={"server_error": "retry_once"})
    first = after(Category.SERVER_ERROR, policy=once)
    assert first.action == Action.RETRY
    assert after(Category.SERVER_ERROR, first.progress, policy=once).action == Action.NEXT


def test_lost_workers_have_a_budget_of_their_own() -> None:
    """Two per model, whatever max_retries says."""
    progress = Progress(budgets=(0, 0))
    for _ in range(LOST_PER_MODEL):
        decision = after(Category.WORKER_LOST, progress)
        assert (decision.action, decision.floor_s, decision.spread_s) == (Action.RETRY, 0.0, 2.0)
        progress = decision.progress
    assert after(Category.WORKER_LOST, progress).action == Action.NEXT


@pytest.mark.parametrize("preset", ["default", "lmi"])
def test_a_worker_without_the_encryption_key_uses_up_nothing_but_time(preset: str) -> None:
    """Asked again after 2 s, doubling up to 60 s: no retry, no lost worker, no other model, and not past the deadline."""
    without_key = FailureFacts(local_fault=LocalFault.UNDECIPHERED, request_sent=Sent.NO)
    policy, progress, floors = Policy(preset=preset, on_unknown="fail"), Progress(budgets=(0, 0)), []
    for _ in range(8):
        decision = V1.decide(without_key, progress, policy, DAY)
        assert (decision.category, decision.action) == (Category.WORKER_LOST, Action.RETRY)
        assert "lacks the encryption key" in decision.reason
        floors.append(decision.floor_s)
        progress = decision.progress
    assert floors == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert (progress.lost, progress.retries, progress.spec_index) == (0, 0, 0)
    cut = V1.decide(without_key, progress, policy, 5.0)
    assert (cut.floor_s, cut.spread_s) == (5.0, 0.0)
    lost = V1.decide(FailureFacts(local_fault=LocalFault.LOST, request_sent=Sent.NO), progress, policy, DAY)
    assert (lost.action, lost.progress.lost) == (Action.RETRY, 1)
    last = V1.decide(without_key, progress, policy.model_copy(update={"max_attempts": 9}), DAY)
    assert (last.action, last.rule, last.outcome) == (Action.FAIL, "max_attempts", CallOutcome.EXHAUSTED)


@pytest.mark.parametrize(
    ("rule", "action"),
    [("retry", Action.RETRY), ("retry_once", Action.RETRY), ("next", Action.NEXT), ("fail", Action.FAIL)],
)
def test_the_callers_rule_for_lost_workers_holds_for_a_missing_key(rule: str, action: Action) -> None:
    """A rule without a retry is followed; a rule with one waits for the key."""
    without_key = FailureFacts(local_fault=LocalFault.UNDECIPHERED, request_sent=Sent.NO)
    decision = V1.decide(without_key, Progress(budgets=(0, 0)), Policy(rules={"worker_lost": rule}), DAY)
    assert (decision.action, decision.floor_s) == (action, 2.0 if action == Action.RETRY else 0.0)


def test_on_unknown_is_about_what_may_have_been_paid() -> None:
    """An attempt that sent nothing may be repeated; no rule overrides the caller's word; the bound of two stays."""
    careful = Policy(on_unknown="fail")
    assert after(Category.WORKER_LOST, policy=careful).action == Action.FAIL
    assert after(Category.WORKER_LOST, policy=careful, request_sent="no").action == Action.RETRY
    ruled = Policy(on_unknown="fail", rules={"worker_lost": "retry"})
    assert after(Category.WORKER_LOST, policy=ruled).action == Action.FAIL
    spent = Progress(budgets=(9, 9), lost=LOST_PER_MODEL)
    assert after(Category.WORKER_LOST, spent, policy=Policy(rules={"worker_lost": "retry"})).action == Action.NEXT


def test_once_is_counted_by_category() -> None:
    """A rate limit that was retried does not use up the one retry of another failure."""
    once = Policy(rules={"server_error": "retry_once"})
    limited = after(Category.RATE_LIMITED, policy=once)
    assert after(Category.SERVER_ERROR, limited.progress, policy=once).action == Action.RETRY


def test_the_ledger_names_the_callers_rule() -> None:
    """A caller who overrode a row sees that in the ledger."""
    assert after(Category.PERMISSION, policy=Policy(rules={"permission": "fail"})).rule == "rules: permission"


def test_a_wait_that_might_pass_the_deadline_is_not_begun_while_another_model_is_ready() -> None:
    """The bounds decide, not the random number; the last model's wait is cut to the time left."""
    late = Progress(budgets=(99, 3), retries=10, tries=10, attempts=10)
    assert after(Category.OVERLOADED, late, left=5.0).action == Action.NEXT
    last = Progress(budgets=(3, 99), spec_index=1, retries=10)
    assert after(Category.OVERLOADED, last, left=5.0).spread_s == 5.0


@pytest.mark.parametrize("hopeless", [Category.MISCONFIGURED, Category.CONTEXT_WINDOW, Category.AUTH])
def test_nobody_waits_for_what_waiting_cannot_clear(hopeless: Category) -> None:
    """A chain that failed only for set-up or size ends, even if the policy would wait."""
    patient, last = Policy(on_exhausted="wait"), Progress(budgets=(0, 0), spec_index=1)
    assert after(hopeless, last, policy=patient).action == Action.FAIL
    hopeful = Progress(budgets=(0, 0), spec_index=1, retry_after={0: 0.0})
    assert after(hopeless, hopeful, policy=patient).action == Action.WAIT


def test_an_exhausted_chain_that_waits_goes_round_again_paced_to_its_deadline() -> None:
    """There is at least a minute between rounds; it doubles, and the attempts last until the deadline."""
    patient = Policy(on_exhausted="wait")
    last = Progress(budgets=(0, 0), spec_index=1, attempts=1)
    first = after(Category.OVERLOADED, last, policy=patient)
    assert (first.action, first.floor_s, first.progress.round, first.progress.spec_index) == (Action.WAIT, 60.0, 2, 0)
    assert after(Category.OVERLOADED, last, policy=patient, left=30.0).outcome == CallOutcome.EXHAUSTED


LMI = Policy(preset="lmi")


@pytest.mark.parametrize(
    ("facts", "action"),
    [
        ({"exception": "RateLimitError", "http_status": 429, "error_code": "insufficient_quota"}, Action.RETRY),
        ({"exception": "Timeout", "http_status": 408}, Action.RETRY),
        ({"exception": "APIConnectionError"}, Action.RETRY),
        ({"exception": "InternalServerError", "http_status": 500}, Action.RETRY),
        ({"exception": "ServiceUnavailableError", "http_status": 503}, Action.RETRY),
        ({"exception": "BadGatewayError", "http_status": 502}, Action.RETRY),
        ({"local_fault": "timeout"}, Action.RETRY),
        ({"answer_defect": "empty", "http_status": 200}, Action.RETRY),
        ({"exception": "NotFoundError", "http_status": 404}, Action.NEXT),
        ({"exception": "AuthenticationError", "http_status": 401}, Action.NEXT),
        ({"exception": "PermissionDeniedError", "http_status": 403}, Action.NEXT),
        ({"exception": "ContextWindowExceededError", "http_status": 400}, Action.NEXT),
        ({"exception": "ContentPolicyViolationError", "http_status": 400}, Action.NEXT),
        ({"answer_defect": "content_filter", "http_status": 200}, Action.NEXT),
        ({"answer_defect": "too_few", "http_status": 200}, Action.NEXT),
        ({"exception": "BadRequestError", "http_status": 403}, Action.NEXT),
        ({"exception": "BadRequestError", "http_status": 400, "text": "Too much media"}, Action.NEXT),
        ({"exception": "BadRequestError", "http_status": 400, "text": "else"}, Action.FAIL),
        ({"exception": "APIError", "http_status": 529}, Action.FAIL),
        ({"exception": "RateLimitError", "http_status": 429, "should_retry": False}, Action.RETRY),
        ({"exception": "UnprocessableEntityError", "http_status": 422}, Action.FAIL),
    ],
)
def test_the_lmi_preset_decides_as_lmi_does(facts: dict, action: Action) -> None:
    """By litellm's class, faults included."""
    decision = V1.decide(FailureFacts(**facts), Progress(budgets=(3, 3)), LMI, DAY)
    assert decision.action == action
    assert decision.rule.startswith("lmi:")


@pytest.mark.parametrize("exception", ["InternalServerError", "ImageFetchError", "APIConnectionError", None])
@pytest.mark.parametrize("fault", ["unsupported", "request_not_built", "missing_key", "unknown_provider"])
def test_the_lmi_preset_leaves_our_own_refusals_alone(fault: str, exception: str | None) -> None:
    """Nothing was sent, and litellm's exception class says nothing about the refusal."""
    facts = FailureFacts(local_fault=fault, exception=exception, request_sent="no")
    decision = V1.decide(facts, Progress(budgets=(3, 3)), LMI, DAY)
    assert decision.action == Action.NEXT


def test_the_lmi_preset_reads_no_delay() -> None:
    """Backoff alone: uniform(0, min(30, 2^(n-1)))."""
    facts = FailureFacts(exception="RateLimitError", http_status=429, retry_after_s=45.0)
    decision = V1.decide(facts, Progress(budgets=(3,)), LMI, DAY)
    assert (decision.floor_s, decision.spread_s) == (0.0, 1.0)


maybe_text = st.none() | st.text(max_size=40)
any_facts = st.builds(
    FailureFacts,
    http_status=st.none() | st.integers(0, 999),
    error_code=maybe_text, error_type=maybe_text, exception=maybe_text,
    error_details=st.lists(st.text(max_size=30), max_size=3),
    text=st.text(max_size=200),
    local_fault=st.none() | st.sampled_from(LocalFault),
    answer_defect=st.none() | st.sampled_from(AnswerDefect),
    retry_after_s=st.none() | st.floats(0, 1e6),
    should_retry=st.none() | st.booleans(),
    request_sent=st.sampled_from(Sent),
)  # fmt: skip


@given(any_facts)
@settings(max_examples=300, deadline=None)
def test_any_facts_however_odd_get_a_verdict(facts: FailureFacts) -> None:
    """The classifier is total."""
    assert V1.classify(facts).category in Category


policies = st.builds(
    Policy,
    preset=st.sampled_from(["default", "lmi"]),
    max_attempts=st.integers(1, 60),
    max_wait=st.integers(1, 1000).map(lambda s: timedelta(seconds=s)),
    on_exhausted=st.sampled_from(["fail", "wait"]),
    on_unknown=st.sampled_from(["resend", "fail"]),
    rules=st.dictionaries(
        st.sampled_from([c for c in Category if c not in (Category.CANCELLED, Category.BUDGET, Category.HELD)]),
        st.sampled_from(["retry", "retry_once", "next", "fail"]),
    ),
)


# What an operator holds spends no attempt; test_steering has its rules.
any_spending_facts = any_facts.filter(lambda facts: facts.local_fault != LocalFault.HELD)


@given(st.data(), policies, st.lists(st.integers(0, 5), min_size=1, max_size=4), st.floats(1, 1e6))
@settings(max_examples=300, deadline=None)
def test_no_sequence_of_failures_outruns_its_budgets(
    data: st.DataObject, policy: Policy, budgets: list[int], left: float
) -> None:
    """A call ends within its attempts, never begins a wait past the deadline and never returns to a model."""
    progress, visited = Progress(budgets=tuple(budgets)), [(1, 0)]
    for number in range(1, policy.max_attempts + 1):
        decision = V1.decide(data.draw(any_spending_facts), progress, policy, left)
        assert decision.progress.attempts == number
        assert decision.floor_s <= left
        if decision.action == Action.FAIL:
            assert decision.outcome in (CallOutcome.EXHAUSTED, CallOutcome.REJECTED)
            return
        left = max(0.0, left - decision.floor_s)
        here = (decision.progress.round, decision.progress.spec_index)
        assert here >= visited[-1], "a model that was left is asked again in its round"
        visited.append(here)
        assert decision.progress.retries <= budgets[decision.progress.spec_index]
        progress = decision.progress
    pytest.fail("the attempts are used up and the call goes on")


def test_a_call_keeps_the_version_that_it_started_with() -> None:
    """A new call gets the newest version; a replay finds its own version's marker, or none for the first."""
    assert stamped_version(lambda _: True, versions=(1, 2, 3)) == 3
    assert stamped_version(lambda marker: marker == "policy-2", versions=(1, 2, 3)) == 2
    assert stamped_version(lambda _: False, versions=(1, 2, 3)) == 1
