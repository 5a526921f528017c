"""The arithmetic of a budget: whatever comes at once and in whatever order, no more is reserved than there is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_llm.contract.budgets import BudgetRaise, Reservation, Settlement
from workflows.policy.budget import Account, reserve, settle, without_lost, woken

NOW_S = 1_000_000.0


def asks(call_id: str, usd: float = 1.0, attempt: int = 1, **fields: object) -> Reservation:
    """A reservation from a budget of ten dollars."""
    return Reservation(call_id=call_id, attempt=attempt, usd=usd, **{"hard": 10.0, **fields})


def taken(account: Account, *reservations: Reservation) -> tuple[Account, list[str]]:
    outcomes = []
    for asked in reservations:
        account, answer = reserve(account, asked, NOW_S)
        outcomes.append(answer.outcome)
    return account, outcomes


def test_what_is_in_flight_counts_by_its_estimate() -> None:
    """Ten fit; the next waits for them to settle; nothing is refused while an estimate may be too high."""
    account, outcomes = taken(Account(), *(asks(f"call-{number}") for number in range(11)))
    assert outcomes == ["granted"] * 10 + ["waits"]
    account = settle(account, Settlement(call_id="call-0", attempt=1, usd=0.25))
    account, ids = woken(account)
    assert ids == []  # 0.75 are free, and the call may take 1
    account = settle(account, Settlement(call_id="call-1", attempt=1, usd=0.25))
    account, ids = woken(account)
    assert ids == ["call-10"]
    assert taken(account, asks("call-10"))[1] == ["granted"]


def test_a_call_is_refused_once_the_money_is_spent() -> None:
    """Those that wait are woken to hear it; those that pause wait for a raise."""
    account, _ = taken(Account(), asks("big", 10.0), asks("refuses"), asks("pauses", pauses=True))
    account, ids = woken(settle(account, Settlement(call_id="big", attempt=1, usd=9.5)))
    assert ids == ["refuses"]
    assert taken(account, asks("refuses"))[1] == ["refused"]
    account = account.model_copy(update={"raised": BudgetRaise(hard=20.0)})
    account, ids = woken(account)
    assert ids == ["pauses"]
    assert taken(account, asks("pauses", pauses=True))[1] == ["granted"]


def test_a_lost_attempt_has_cost_its_estimate() -> None:
    """Its worker died, so nobody settles it; the next attempt of the call does. A late settlement changes nothing."""
    account, outcomes = taken(Account(), asks("a", 6.0), asks("a", 3.0, attempt=2))
    assert outcomes == ["granted", "granted"]
    assert (account.spent, account.estimated, account.reserved) == (6.0, 6.0, 3.0)
    assert settle(account, Settlement(call_id="a", attempt=1, usd=0.1)) == account
    unknown = settle(account, Settlement(call_id="a", attempt=2, usd=None))
    assert (unknown.spent, unknown.estimated, unknown.reserved) == (9.0, 9.0, 0)


def test_a_call_that_was_lost_with_its_worker_does_not_block_others_for_ever() -> None:
    """It was never asked again, so nobody settles its attempt. When its time is over, its estimate is spent."""
    account, _ = reserve(Account(), asks("lost", 10.0, lasts_s=600), NOW_S)
    account, answer = reserve(account, asks("next", 5.0), NOW_S + 599)
    assert answer.outcome == "waits"
    account, ids = woken(without_lost(account, NOW_S + 601))
    assert (ids, account.spent, account.estimated, account.open) == (["next"], 10.0, 10.0, {})
    assert reserve(account, asks("next", 5.0), NOW_S + 602)[1].outcome == "refused"


def test_a_soft_limit_warns_and_refuses_nothing() -> None:
    """From the first reservation that exceeds it."""
    account, first = reserve(Account(), asks("a", 4.0, hard=None, soft=5.0), NOW_S)
    account, second = reserve(account, asks("b", 4.0, hard=None, soft=5.0), NOW_S)
    assert (first.warns, second.warns, second.outcome) == (False, True, "granted")


@given(
    st.lists(
        st.tuples(
            st.integers(0, 9), st.sampled_from(["reserve", "settle", "lose"]), st.floats(0.01, 3), st.floats(0, 1),
            st.booleans(),
        ),
        max_size=60,
    )
)  # fmt: skip
def test_nothing_is_overshot_and_nobody_is_forgotten(events: list) -> None:
    """Estimates that are high enough are never overshot, and who waits is woken, unless he waits for a raise."""
    account, attempts, asked_by = Account(), dict.fromkeys(range(10), 0), {}
    for number, what, usd, share, pauses in events:
        call_id = f"call-{number}"
        if what == "reserve":
            attempts[number] += 1
            asked_by[call_id] = asks(call_id, usd, attempts[number], pauses=pauses)
            account, _ = reserve(account, asked_by[call_id], NOW_S)
        else:
            real = None if what == "lose" else share * account.open.get(call_id, (0, 0.0, 0.0))[1]
            account = settle(account, Settlement(call_id=call_id, attempt=attempts[number], usd=real))
        assert account.spent + account.reserved == pytest.approx(min(account.spent + account.reserved, 10.0))
    while account.open:
        call_id, (attempt, *_) = next(iter(account.open.items()))
        account = settle(account, Settlement(call_id=call_id, attempt=attempt, usd=None))
        account, ids = woken(account)
        for each in ids:
            account, answer = reserve(account, asked_by[each], NOW_S)
            assert answer.outcome != "waits" or account.open or asked_by[each].pauses
    account, _ = woken(account)
    assert all(pauses for _, pauses in account.waiting.values())
