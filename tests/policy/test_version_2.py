"""Policy version 2: what is specific beats what is generic, and patience is time."""

from datetime import timedelta

import pytest

from durable_llm.contract.categories import Action, CallOutcome, Category
from durable_llm.contract.facts import FailureFacts, LocalFault, Sent
from durable_llm.contract.policy import Policy, PolicyOnWire
from workflows.policy.decide import Decision, Progress
from workflows.policy.patience import FIRST_PAUSE_S, LONGEST_PAUSE_S
from workflows.policy.versions import VERSIONS

V1, V2 = VERSIONS[1], VERSIONS[2]
DAY = 86_400.0
OVERLOADED = FailureFacts(http_status=503)
REJECTED = FailureFacts(http_status=400, text="something that nobody knows")
DENIED = FailureFacts(http_status=403)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        # a code beats the type beside it
        ({"answer_defect": "error_body", "error_type": "invalid_request_error", "error_code": "request_timeout"},
         Category.SERVER_ERROR),
        ({"answer_defect": "error_body", "error_type": "invalid_request_error", "error_code": "server_error"},
         Category.SERVER_ERROR),
        ({"answer_defect": "error_body", "error_type": "invalid_request_error", "error_code": "upstream_disconnected"},
         Category.SERVER_ERROR),
        ({"answer_defect": "error_body", "error_type": "invalid_request_error", "error_code": "invalid_prompt"},
         Category.INVALID_REQUEST),
        ({"answer_defect": "error_body", "error_type": "invalid_request_error"}, Category.INVALID_REQUEST),
        ({"http_status": 400, "error_type": "invalid_request_error", "error_code": "internal_error"},
         Category.SERVER_ERROR),
        ({"http_status": 422, "error_code": "gateway_timeout", "text": "invalid type"}, Category.SERVER_ERROR),
        # a used-up quota under any 4xx
        ({"http_status": 401, "error_type": "insufficient_quota"}, Category.QUOTA_EXHAUSTED),
        ({"http_status": 401, "text": "You exceeded your current quota, please check your plan and billing details."},
         Category.QUOTA_EXHAUSTED),
        ({"http_status": 404, "text": "Insufficient balance"}, Category.QUOTA_EXHAUSTED),
        ({"http_status": 403, "text": "Monthly quota has been exhausted"}, Category.QUOTA_EXHAUSTED),
        ({"http_status": 409, "error_code": "usage_limit_reached"}, Category.QUOTA_EXHAUSTED),
        ({"http_status": 401, "text": "Incorrect API key provided: [key]"}, Category.AUTH),
        # a structured value in each of its spellings
        ({"http_status": 429, "error_details": ["quota_limit_value=0"]}, Category.QUOTA_EXHAUSTED),
        ({"http_status": 429, "error_details": ["quotaValue=0"]}, Category.QUOTA_EXHAUSTED),
        ({"http_status": 429, "text": 'limit for metric: {"quota_limit_value": "0"}'}, Category.QUOTA_EXHAUSTED),
        ({"http_status": 429, "error_details": ["quotaId=RequestsPerMinutePerProject", "quota_limit_value=0"]},
         Category.QUOTA_EXHAUSTED),
        ({"http_status": 429, "error_details": ["quotaId=RequestsPerMinutePerProject", "quotaValue=05"]},
         Category.RATE_LIMITED),
        ({"http_status": 429, "error_details": ["quota_limit_value=60", "quotaId=PerMinute"]}, Category.RATE_LIMITED),
        # a guess is not a statement
        ({"http_status": 400, "text": "The request failed (e.g. check quota exceeded)"}, Category.UNRECOGNISED),
        ({"http_status": 400, "text": "It failed. Your account might be out of credits."}, Category.UNRECOGNISED),
        ({"http_status": 401, "text": "Bad token, for example a project out of credits"}, Category.AUTH),
        ({"http_status": 400, "text": "Your account is out of credits."}, Category.QUOTA_EXHAUSTED),
        # the state of whoever pays
        ({"http_status": 400, "text": "This organization has been disabled."}, Category.PERMISSION),
        ({"http_status": 400, "text": "Your team has been restricted from this endpoint"}, Category.PERMISSION),
        ({"http_status": 401, "text": "The project is currently suspended."}, Category.PERMISSION),
        ({"http_status": 404, "text": "This account was banned for a violation of terms"}, Category.PERMISSION),
        ({"http_status": 400, "error_code": "organization_restricted"}, Category.PERMISSION),
        ({"answer_defect": "error_body", "text": "Workspace is deactivated"}, Category.PERMISSION),
        ({"http_status": 400, "text": "The account field must be closed with a quote"}, Category.UNRECOGNISED),
        # the parameter that is named
        ({"http_status": 400, "error_param": "temperature", "text": "invalid type: expected a number"},
         Category.PROVIDER_LIMIT),
        ({"http_status": 400, "error_param": "max_tokens"}, Category.PROVIDER_LIMIT),
        ({"http_status": 422, "error_param": "reasoning.effort"}, Category.PROVIDER_LIMIT),
        ({"http_status": 400, "error_param": "model"}, Category.NOT_FOUND),
        ({"http_status": 400, "error_param": "messages[1].tool_calls", "text": "tool_call_ids did not respond"},
         Category.INVALID_REQUEST),
        ({"http_status": 400, "error_param": "messages"}, Category.UNRECOGNISED),
        # nothing known
        ({"http_status": 400}, Category.UNRECOGNISED),
        ({"http_status": 418}, Category.UNRECOGNISED),
        # what may have been paid
        ({"local_fault": "disconnected", "request_sent": "yes", "duration_s": 1.5}, Category.TIMEOUT),
        ({"local_fault": "disconnected", "request_sent": "yes", "duration_s": 0.2}, Category.CONNECTION),
        ({"local_fault": "disconnected", "request_sent": "no", "duration_s": 9.0}, Category.CONNECTION),
        # half an answer, and a turn that is not over
        ({"http_status": 200, "answer_defect": "out_of_window"}, Category.CONTEXT_WINDOW),
        ({"http_status": 200, "answer_defect": "unfinished"}, Category.UNUSABLE_ANSWER),
    ],
)  # fmt: skip
def test_a_failure_is_what_the_most_specific_statement_says(facts: dict, expected: Category) -> None:
    """The words and codes are those of real bodies, shortened."""
    assert V2.classify(FailureFacts(**facts)).category == expected


def decided(facts: FailureFacts, progress: Progress, policy: PolicyOnWire | None = None, left: float = DAY) -> Decision:
    """The decision of version 2."""
    return V2.decide(facts, progress, policy or Policy(), left)


def outlast(
    facts: FailureFacts, seconds: float, policy: PolicyOnWire, *, budgets: tuple[int, ...] = (3,), left: float = DAY
) -> tuple[int, float, Decision]:
    """Play a failure that ends after `seconds`, with the shortest waits.

    Returns:
        How many requests were made, when the last one was made, and the last decision.
    """
    progress, at, requests = Progress(budgets=budgets), 0.0, 0
    while True:
        requests += 1
        decision = decided(facts, progress, policy, left - at)
        if at >= seconds or decision.action == Action.FAIL:
            return requests, at, decision
        at += decision.floor_s
        progress = decision.progress


def test_an_overload_of_two_minutes_is_outlasted_with_few_requests() -> None:
    """130 s of 503, one model, defaults: the request after that is made, as at most the twelfth."""
    requests, at, decision = outlast(OVERLOADED, 130.0, Policy())
    assert decision.action != Action.FAIL
    assert requests <= 12
    assert at <= 130.0 + LONGEST_PAUSE_S


@pytest.mark.parametrize("preset", ["default", "lmi"])
def test_without_patience_a_call_ends_as_it_did(preset: str) -> None:
    """0 is version 1's behaviour, and what a request of an older client means; the preset lmi has no patience."""
    policy = PolicyOnWire(preset=preset) if preset == "default" else Policy(preset=preset)
    _, at, decision = outlast(OVERLOADED, DAY, policy)
    assert (decision.action, decision.outcome, at) == (Action.FAIL, CallOutcome.EXHAUSTED, 0.0)


@pytest.mark.parametrize(("patience", "ends"), [(timedelta(minutes=5), 300.0), (timedelta(hours=1), 3600.0)])
def test_patience_ends(patience: timedelta, ends: float) -> None:
    """The call ends within the last pause before its patience does."""
    _, at, decision = outlast(OVERLOADED, DAY, Policy(patience=patience, max_attempts=1000))
    assert (decision.action, decision.outcome) == (Action.FAIL, CallOutcome.EXHAUSTED)
    assert ends - LONGEST_PAUSE_S <= at <= ends


def test_patience_without_a_limit_lasts_until_the_deadline() -> None:
    """None: the deadline is the only end, beside the attempts of the whole call."""
    _, at, decision = outlast(OVERLOADED, DAY, Policy(patience=None, max_attempts=1000), left=7200.0)
    assert decision.action == Action.FAIL
    assert 7200.0 - LONGEST_PAUSE_S <= at <= 7200.0
    assert decided(OVERLOADED, Progress(budgets=(0,)), Policy(patience=None)).reason.endswith("until the deadline")


def test_pauses_grow_from_seconds_to_a_minute() -> None:
    """They double; a quarter is added as jitter, and a provider's own wait is a minimum."""
    progress, floors = Progress(budgets=(0,)), []
    for _ in range(6):
        decision = decided(OVERLOADED, progress)
        floors.append(decision.floor_s)
        assert (decision.action, decision.spread_s) == (Action.WAIT, decision.floor_s / 4)
        progress = decision.progress
    assert floors == [FIRST_PAUSE_S, 8.0, 16.0, 32.0, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    limited = FailureFacts(http_status=429, retry_after_s=40.0)
    assert decided(limited, Progress(budgets=(0,))).floor_s == 40.0


def test_only_models_that_may_soon_answer_are_asked_again() -> None:
    """A refused key stays refused: the second round leaves its model out, and the status says why the call waits."""
    progress = Progress(budgets=(0, 0, 0))
    progress = decided(DENIED, progress).progress
    progress = decided(OVERLOADED, progress).progress
    decision = decided(DENIED, progress)
    assert (decision.action, decision.progress.spec_index, decision.progress.round) == (Action.WAIT, 1, 2)
    assert "patience for 900 s more" in decision.reason
    again = decided(OVERLOADED, decision.progress, left=DAY - 5)
    assert (again.action, again.progress.spec_index) == (Action.WAIT, 1)
    assert "patience for 895 s more" in again.reason


@pytest.mark.parametrize("facts", [DENIED, FailureFacts(local_fault="timeout"), FailureFacts(http_status=402)])
def test_nobody_waits_for_what_patience_cannot_clear(facts: FailureFacts) -> None:
    """A permission, a used-up quota, and what each further round would pay for again."""
    progress = Progress(budgets=(0,), retried=frozenset({Category.TIMEOUT}))
    assert decided(facts, progress).action == Action.FAIL


def test_a_call_that_waits_when_exhausted_is_patient_first() -> None:
    """`on_exhausted="wait"` begins where patience ends, a minute apart and longer, and patience does not begin anew."""
    policy = Policy(on_exhausted="wait", patience=timedelta(seconds=10))
    first = decided(OVERLOADED, Progress(budgets=(0,)), policy)
    assert first.floor_s == FIRST_PAUSE_S
    second = decided(OVERLOADED, first.progress, policy, DAY - 6)
    assert (second.action, second.floor_s >= 60.0) == (Action.WAIT, True)
    third = decided(OVERLOADED, second.progress, policy, DAY - 200)
    assert third.floor_s >= 60.0


def test_a_call_is_rejected_when_every_model_rejected_it() -> None:
    """One model that failed for another reason might have taken the request: then the call is exhausted."""
    progress = Progress(budgets=(3, 3))
    first = decided(REJECTED, progress)
    assert (first.category, first.action) == (Category.UNRECOGNISED, Action.NEXT)
    assert decided(REJECTED, first.progress).outcome == CallOutcome.REJECTED
    assert decided(DENIED, first.progress).outcome == CallOutcome.EXHAUSTED
    denied = decided(DENIED, progress)
    assert decided(REJECTED, denied.progress).outcome == CallOutcome.EXHAUSTED


def test_what_is_plainly_broken_still_ends_the_call() -> None:
    """No provider takes a transcript whose tool results are missing."""
    broken = FailureFacts(http_status=400, text="tool_use ids were found without tool_result blocks")
    decision = decided(broken, Progress(budgets=(3, 3)))
    assert (decision.action, decision.outcome) == (Action.FAIL, CallOutcome.REJECTED)


@pytest.mark.parametrize(
    "facts",
    [FailureFacts(local_fault="timeout"),
     FailureFacts(local_fault="disconnected", request_sent="yes", duration_s=2.0)],
)  # fmt: skip
def test_what_may_have_been_paid_is_asked_again_only_alone_and_once(facts: FailureFacts) -> None:
    """With another model in the chain that one is asked at once; a rule of the caller's own comes first."""
    assert decided(facts, Progress(budgets=(3, 3))).action == Action.NEXT
    alone = decided(facts, Progress(budgets=(3,)))
    assert alone.action == Action.RETRY
    assert decided(facts, alone.progress).action == Action.FAIL
    assert decided(facts, Progress(budgets=(3, 3)), Policy(rules={"timeout": "retry"})).action == Action.RETRY


def test_a_drained_worker_spends_nothing() -> None:
    """A worker that stops in order says nothing about the model; one that is lost may have been killed by the call."""
    drained = FailureFacts(local_fault=LocalFault.DRAINED, request_sent=Sent.YES)
    progress = Progress(budgets=(0,))
    for _ in range(9):
        decision = decided(drained, progress)
        assert decision.action == Action.RETRY
        progress = decision.progress
    assert (progress.lost, progress.retries) == (0, 0)
    careful = decided(drained, Progress(budgets=(0,)), Policy(on_unknown="fail"))
    assert careful.action == Action.FAIL


def test_version_1_is_unchanged() -> None:
    """Running calls keep what they started with."""
    assert V1.classify(REJECTED).category == Category.INVALID_REQUEST
    assert V1.decide(OVERLOADED, Progress(budgets=(0,)), Policy(), DAY).action == Action.FAIL
    assert (
        V1.decide(FailureFacts(local_fault="timeout"), Progress(budgets=(3, 3)), Policy(), DAY).action == Action.RETRY
    )
