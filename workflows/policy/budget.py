"""The arithmetic of a budget: reserve before a request, settle after it.

A reservation is granted if what is spent and what is reserved leave room for it. So however many calls come at once,
they exceed the budget by no more than what the estimates of those in flight are short of.
"""

from typing import Final

from pydantic import Field

from durable_llm.contract.budgets import BudgetRaise, BudgetStatus, Reservation, Reserved, Settlement
from durable_llm.contract.wire import Wire

_ROUNDING: Final = 1e-9


class Account(Wire):
    """What is known of a budget."""

    hard: float | None = None
    """As the last reservation declared it."""
    soft: float | None = None
    raised: BudgetRaise = BudgetRaise()
    """What an operator set since."""
    spent: float = 0.0
    estimated: float = 0.0
    open: dict[str, tuple[int, float, float]] = Field(default_factory=dict)
    """By call: its attempt in flight, the estimate in USD, and the second of the epoch at which it counts as lost."""
    waiting: dict[str, tuple[float, bool]] = Field(default_factory=dict)
    """By call, in order: what it asked for in USD, and whether it waits for a raise too."""

    @property
    def reserved(self) -> float:
        """USD of all attempts in flight."""
        return sum(usd for _, usd, _ in self.open.values())

    @property
    def limit(self) -> float | None:
        """The hard limit now: the declared one, or more if it was raised."""
        known = [each for each in (self.hard, self.raised.hard) if each is not None]
        return max(known, default=None)

    @property
    def room(self) -> float:
        """USD that may be reserved now."""
        return float("inf") if self.limit is None else self.limit - self.spent - self.reserved + _ROUNDING

    def fits(self, usd: float) -> bool:
        """Whether there is room."""
        return usd <= self.room

    def may_fit(self, usd: float) -> bool:
        """Whether there may be room once the attempts in flight have settled."""
        return bool(self.open) and usd <= self.room + self.reserved

    @property
    def warns(self) -> bool:
        """Whether what is spent and reserved exceeds the soft limit."""
        known = [each for each in (self.soft, self.raised.soft) if each is not None]
        return bool(known) and self.spent + self.reserved > max(known)


def without_lost(account: Account, now_s: float, call_id: str | None = None) -> Account:
    """The account after the estimates of attempts were spent that nobody settles: they were lost with their workers.

    Those are the attempts whose time is over, and an earlier one of the call that asks now.
    """
    lost = {key: usd for key, (_, usd, ends_s) in account.open.items() if key == call_id or ends_s <= now_s}
    return account.model_copy(
        update={
            "open": {key: each for key, each in account.open.items() if key not in lost},
            "spent": account.spent + sum(lost.values()), "estimated": account.estimated + sum(lost.values()),
        }
    )  # fmt: skip


def reserve(account: Account, asked: Reservation, now_s: float) -> tuple[Account, Reserved]:
    """The account after an attempt asked for its money, and the answer.

    Args:
        account: Before it.
        asked: What the attempt may cost.
        now_s: Now, in seconds of the epoch.
    """
    account = without_lost(account, now_s, asked.call_id)
    waiting = {call_id: each for call_id, each in account.waiting.items() if call_id != asked.call_id}
    account = account.model_copy(update={"hard": asked.hard, "soft": asked.soft, "waiting": waiting})
    if account.fits(asked.usd):
        entry = (asked.attempt, asked.usd, now_s + asked.lasts_s)
        account = account.model_copy(update={"open": {**account.open, asked.call_id: entry}})
        outcome = "granted"
    elif asked.pauses or account.may_fit(asked.usd):
        account = account.model_copy(update={"waiting": {**waiting, asked.call_id: (asked.usd, asked.pauses)}})
        outcome = "waits"
    else:
        outcome = "refused"
    answer = Reserved(
        outcome=outcome, spent=account.spent, reserved=account.reserved, hard=account.limit, warns=account.warns
    )
    return account, answer


def woken(account: Account) -> tuple[Account, list[str]]:
    """The account without the calls that need wait no longer, and their ids.

    Those are the first for which there is room now, and those for which there never will be without a raise, if they
    do not wait for one.
    """
    room, waiting, ids = account.room, dict(account.waiting), []
    for call_id, (usd, pauses) in account.waiting.items():
        if usd <= room or not (pauses or account.may_fit(usd)):
            room -= usd if usd <= room else 0.0
            ids.append(call_id)
            del waiting[call_id]
    return account.model_copy(update={"waiting": waiting}), ids


def settle(account: Account, ended: Settlement) -> Account:
    """The account after an attempt ended. One that is not open any more has been counted."""
    attempt, estimate, _ = account.open.get(ended.call_id, (0, 0.0, 0.0))
    if attempt != ended.attempt:
        return account
    left_open = {call_id: each for call_id, each in account.open.items() if call_id != ended.call_id}
    real = estimate if ended.usd is None else ended.usd
    guessed = estimate if ended.usd is None else 0.0
    return account.model_copy(
        update={"open": left_open, "spent": account.spent + real, "estimated": account.estimated + guessed}
    )


def status_of(account: Account, name: str) -> BudgetStatus:
    """For people."""
    return BudgetStatus(
        name=name, hard=account.limit, soft=account.raised.soft or account.soft, spent=account.spent,
        reserved=account.reserved, estimated=account.estimated, waiting=len(account.waiting),
    )  # fmt: skip
