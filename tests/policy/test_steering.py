"""Where a call goes on when an operator has interfered, and when it is parked."""

from datetime import timedelta

from durable_llm.contract.categories import Action, CallOutcome, Category
from durable_llm.contract.facts import FailureFacts, LocalFault, Sent
from durable_llm.contract.policy import MAX_ATTEMPTS_CEILING, Policy
from workflows.policy.decide import Progress
from workflows.policy.steering import extended, given_up, rechained, resumed, skipped
from workflows.policy.versions import VERSIONS

DAY = 86_400.0
PARKS = Policy(on_exhausted="park", patience=timedelta(0))
DENIED = FailureFacts(http_status=403)


def test_every_version_parks_a_call_that_no_model_answered() -> None:
    """But not one whose request is at fault, and not one whose history is full."""
    for version in VERSIONS.values():
        parked = version.decide(DENIED, Progress(budgets=(0,)), PARKS, DAY)
        assert (parked.action, parked.outcome) == (Action.PARK, None)
        rejected = version.decide(FailureFacts(http_status=422), Progress(budgets=(0,)), PARKS, DAY)
        assert (rejected.action, rejected.outcome) == (Action.FAIL, CallOutcome.REJECTED)
        full = Progress(budgets=(0,), attempts=MAX_ATTEMPTS_CEILING - 1)
        assert version.decide(DENIED, full, PARKS, DAY).action == Action.FAIL


def test_a_resumed_call_has_all_its_retries_and_attempts() -> None:
    """It begins as at first; only its attempts are still counted, for the ceiling of a history."""
    used = Progress(budgets=(1, 1), spec_index=1, tries=2, retries=1, attempts=100, round=4, patience_began_s=10.0)
    again = resumed(used)
    assert again == Progress(budgets=(1, 1), attempts=100, attempts_before=100)
    policy = PARKS.model_copy(update={"max_attempts": 2})
    first = VERSIONS[2].decide(DENIED, again, policy, DAY)
    assert first.action == Action.NEXT
    assert VERSIONS[2].decide(DENIED, first.progress, policy, DAY).rule == "max_attempts"


def test_a_later_deadline_makes_nobody_more_patient() -> None:
    """Patience is counted in the time that is left, so it moves with the deadline."""
    busy = FailureFacts(http_status=503)
    policy = Policy(patience=timedelta(minutes=10))
    waiting = VERSIONS[2].decide(busy, Progress(budgets=(0,)), policy, DAY).progress
    assert extended(Progress(budgets=(0,)), DAY).patience_began_s is None
    later = DAY - 599.0
    same = VERSIONS[2].decide(busy, waiting, policy, later)
    moved = VERSIONS[2].decide(busy, extended(waiting, DAY), policy, later + DAY)
    assert (moved.action, moved.reason) == (same.action, same.reason)
    assert VERSIONS[2].decide(busy, waiting, policy, later + DAY).action == Action.WAIT != same.action


def test_an_attempt_that_was_given_up_counts_and_uses_no_retry() -> None:
    """The next one on the model has the next number."""
    asked = Progress(budgets=(2,), tries=1, retries=1, attempts=4)
    assert given_up(asked) == Progress(budgets=(2,), tries=2, retries=1, attempts=5)


def test_a_skip_leaves_out_what_does_not_clear() -> None:
    """In a later round it goes to the next model that is still asked; after the last one nowhere."""
    later = Progress(budgets=(1, 1, 1), tries=1, retries=1, round=2, skipped=frozenset({1}), attempts=7)
    assert skipped(later) == Progress(budgets=(1, 1, 1), spec_index=2, round=2, skipped=frozenset({1}), attempts=7)
    assert skipped(skipped(later)) == skipped(later)


def test_other_models_bring_their_own_retries_and_no_past() -> None:
    """What is known of models that stay is kept; what is known of those that went is forgotten."""
    before = Progress(
        budgets=(1, 2, 3), spec_index=1, tries=1, failures={0: Category.AUTH, 2: Category.AUTH},
        retry_after={0: 1.0, 2: 2.0}, skipped=frozenset({0, 2}),
    )  # fmt: skip
    after = rechained(before, 2, [9])
    assert (after.budgets, after.spec_index, after.tries) == ((1, 2, 9), 1, 1)
    assert (after.failures, after.retry_after, after.skipped) == ({0: Category.AUTH}, {0: 1.0}, frozenset({0}))


def test_what_is_held_spends_no_attempt_until_the_history_is_full() -> None:
    """A call with one attempt still has it when it is released, however often it is held; a full history ends it."""
    once = Policy(max_attempts=1, patience=timedelta(0))
    held = FailureFacts(local_fault=LocalFault.HELD, request_sent=Sent.NO)
    for version in VERSIONS.values():
        progress = Progress(budgets=(0,))
        for number in range(1, MAX_ATTEMPTS_CEILING):
            decision = version.decide(held, progress, once, DAY)
            assert (decision.action, decision.until_woken, decision.waits) == (Action.WAIT, True, False)
            progress = decision.progress
            assert (progress.attempts, progress.attempts - progress.attempts_before) == (number, 0)
            assert (progress.spec_index, progress.tries, progress.retries) == (0, 0, 0)
        assert version.decide(held, progress, once, DAY).action == Action.FAIL
