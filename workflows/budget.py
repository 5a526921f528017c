"""`LLMBudget`: keeps what calls have spent together, and whether another request may be made."""

from datetime import timedelta
from typing import Final

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from durable_llm.contract.budgets import (
        BudgetRaise,
        BudgetStart,
        BudgetStatus,
        Reservation,
        Reserved,
        Settlement,
    )
    from durable_llm.contract.ledger import usd
    from durable_llm.contract.names import (
        BUDGET_QUERY,
        BUDGET_WORKFLOW,
        RAISE_UPDATE,
        RESERVE_UPDATE,
        SETTLE_SIGNAL,
    )

    from .policy.budget import Account, reserve, settle, status_of, without_lost, woken
    from .waking import wake

_KEPT: Final = timedelta(days=30)
"""A budget that nothing was reserved from for this long ends; a later reservation begins it anew."""

_AGAIN: Final = timedelta(minutes=1)
"""How often calls are woken that may have missed their turn: one that was woken may have ended instead."""


@workflow.defn(name=BUDGET_WORKFLOW)
class LLMBudget:
    """One budget."""

    @workflow.init
    def __init__(self, start: BudgetStart) -> None:
        self._name = start.name
        self._account = Account.model_validate(start.state)
        self._changed = False

    @workflow.update(name=RESERVE_UPDATE)
    def reserve(self, asked: list[Reservation]) -> list[Reserved]:
        """Grant attempts their money, or not."""
        answers = []
        for each in asked:
            self._account, answer = reserve(self._account, each, workflow.time())
            answers.append(answer)
        self._changed = True
        return answers

    @workflow.signal(name=SETTLE_SIGNAL)
    def settle(self, ended: Settlement) -> None:
        """Take what an attempt has spent."""
        self._account, self._changed = settle(self._account, ended), True

    @workflow.update(name=RAISE_UPDATE)
    def raise_to(self, raised: BudgetRaise) -> BudgetStatus:
        """Set new limits, and wake the calls that wait for them."""
        merged = {**self._account.raised.model_dump(), **raised.model_dump(exclude_none=True)}
        self._account = self._account.model_copy(update={"raised": BudgetRaise(**merged)})
        self._changed = True
        return status_of(self._account, self._name)

    @workflow.query(name=BUDGET_QUERY)
    def status(self) -> BudgetStatus:
        """What the budget is at."""
        return status_of(self._account, self._name)

    @workflow.run
    async def run(self, start: BudgetStart) -> BudgetStatus:  # noqa: ARG002  # the constructor took it
        """Wake calls when something has settled or was raised, until nothing is reserved for a month."""
        while True:
            self._changed = False
            self._show()
            await self._wake()
            if workflow.info().is_continue_as_new_suggested():
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(BudgetStart(name=self._name, state=self._account.model_dump()))
            if not await self._anything():
                return self.status()

    async def _anything(self) -> bool:
        """Wait for a change; False after a month without a reservation."""
        timeout = _AGAIN if self._account.waiting else _KEPT
        try:
            await workflow.wait_condition(lambda: self._changed, timeout=timeout)
        except TimeoutError:
            return bool(self._account.waiting)
        return True

    async def _wake(self) -> None:
        """Let calls go on that need wait no longer. Calls that have ended are passed over."""
        self._account, call_ids = woken(without_lost(self._account, workflow.time()))
        some_had_ended = await wake(call_ids)
        self._changed = self._changed or some_had_ended

    def _show(self) -> None:
        status = self.status()
        limit = "no limit" if status.hard is None else f"of {usd(status.hard)}"
        workflow.set_current_details(
            f"**{usd(status.spent)} {limit} spent**, {usd(status.reserved)} reserved, {status.waiting} calls wait"
        )
