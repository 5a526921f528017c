"""An attempt's money: reserved in each of its call's budgets before the request, and settled after it."""

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from temporalio import activity
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from durable_llm.backoff import Backoff
from durable_llm.contract.budgets import (
    Reservation,
    Reserved,
    Settlement,
    budget_id,
    budget_start,
)
from durable_llm.contract.facts import FailureFacts, LocalFault
from durable_llm.contract.ledger import Usage, usd
from durable_llm.contract.names import RESERVE_UPDATE, SETTLE_SIGNAL
from durable_llm.contract.quotas import of_quota_queue
from durable_llm.contract.request import AttemptOrder, Prompt
from durable_llm.contract.result import Answer

from ..answer.cost import estimate_of
from ..faults import LocalFaultError
from .estimate import most_output_tokens, prompt_tokens

logger = logging.getLogger("durable_llm")

USUAL_OUTPUT_TOKENS: Final = 1000
"""Of an answer whose length the request does not limit."""

_RPC: Final = timedelta(seconds=10)
_TRIES: Final = 10
_HELD_S: Final = 1800.0
"""Seconds beyond an attempt's timeout in which it may settle: it may hold its outcome while the server is away."""
_TOGETHER: Final = 500
"""Reservations of one request."""
_NOTHING_SENT: Final = frozenset({LocalFault.BUDGET_SPENT, LocalFault.BUDGET_WAITS})


@dataclass(frozen=True)
class _Asked:
    """A reservation, and who waits for its answer."""

    reservation: Reservation
    answer: asyncio.Future[Reserved]


class Money:
    """Reserves the money of this worker's attempts.

    Those that ask the same budget at once share one request: a workflow takes ten updates at a time.
    """

    def __init__(self) -> None:
        self._asking: dict[str, list[_Asked]] = {}

    async def reserve(self, order: AttemptOrder, prompt: Prompt) -> None:
        """Reserve what the request of the running attempt may cost, in each budget of its call.

        Raises:
            LocalFaultError: BUDGET_SPENT: the call must end. BUDGET_WAITS: it waits until the budget wakes it.
        """
        if not order.budgets:
            return
        call_id, began = activity.info().workflow_id or "", activity.info().started_time
        output = most_output_tokens(order.spec) or USUAL_OUTPUT_TOKENS
        tokens = Usage(prompt_tokens=prompt_tokens(prompt), completion_tokens=0 if prompt.texts else output)
        estimate = estimate_of(order.spec.name, tokens)
        for place, budget in enumerate(order.budgets):
            name = budget.name_at(began)
            answer = await self._ask(name, Reservation(
                call_id=call_id, attempt=order.number, usd=estimate, hard=budget.hard, soft=budget.soft,
                pauses=budget.on_spent == "pause", lasts_s=order.timeout_s + _HELD_S,
            ))  # fmt: skip
            if answer.outcome == "granted":
                if answer.warns:
                    logger.warning("%s, more than its soft limit of %s", _state(name, answer), usd(budget.soft))
                continue
            for earlier in order.budgets[:place]:
                await _settle(earlier.name_at(began), Settlement(call_id=call_id, attempt=order.number, usd=0.0))
            fault = LocalFault.BUDGET_SPENT if answer.outcome == "refused" else LocalFault.BUDGET_WAITS
            more = f"{usd(answer.reserved)} more is reserved, and this request may take {usd(estimate)}"
            raise LocalFaultError(fault, f"{_state(name, answer)}, {more}")

    async def _ask(self, name: str, reservation: Reservation) -> Reserved:
        """Ask a budget together with all that ask it now."""
        asked = _Asked(reservation, asyncio.get_running_loop().create_future())
        if name in self._asking:
            self._asking[name].append(asked)
        else:
            self._asking[name] = [asked]
            asking = asyncio.create_task(self._ask_all(activity.client(), name, _calls_queue()))
            asked.answer.add_done_callback(lambda _: asking)  # a task that nobody refers to may vanish
        return await asked.answer

    async def _ask_all(self, client: Client, name: str, task_queue: str) -> None:
        """Ask until nobody is left who wants to know. It waits as long as the server is away."""
        backoff = Backoff(0.1, 5.0)
        while asked := self._asking[name]:
            together = asked[:_TOGETHER]
            try:
                answers: list[Reserved] = await client.execute_update_with_start_workflow(
                    RESERVE_UPDATE, [each.reservation for each in together], result_type=list[Reserved],
                    start_workflow_operation=budget_start(task_queue, name),
                )  # fmt: skip
            except Exception as error:  # of the server, or an update that a worker of ours failed
                logger.warning("budget %s does not answer: %s", name, error)
                await backoff.pause()
                continue
            del asked[: len(together)]
            for each, answer in zip(together, answers, strict=True):
                if not each.answer.done():
                    each.answer.set_result(answer)
        del self._asking[name]


async def settle_money(
    order: AttemptOrder, call_id: str, outcome: Answer | FailureFacts | None, began: datetime
) -> None:
    """Tell each budget what the attempt has cost. What is not delivered counts by its estimate, sooner or later.

    Args:
        order: The attempt's.
        call_id: Its call.
        outcome: How it ended. None: it was cancelled, and nobody knows what that has cost.
        began: When its activity started, which says of which day its budgets are.
    """
    if not order.budgets or (isinstance(outcome, FailureFacts) and outcome.local_fault in _NOTHING_SENT):
        return
    cost = outcome.billed if isinstance(outcome, FailureFacts) else outcome and outcome.cost
    ended = Settlement(call_id=call_id, attempt=order.number, usd=cost)
    for budget in order.budgets:
        await _settle(budget.name_at(began), ended)


async def _settle(name: str, ended: Settlement) -> None:
    """Tell a budget. One that does not exist was never asked."""
    backoff = Backoff(0.1, 5.0)
    for _ in range(_TRIES):
        try:
            await activity.client().get_workflow_handle(_id(name)).signal(SETTLE_SIGNAL, ended, rpc_timeout=_RPC)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return
            await backoff.pause()
            continue
        return


def _state(name: str, answer: Reserved) -> str:
    return f"budget {name!r}: {usd(answer.spent)} of {usd(answer.hard)} is spent"


def _id(name: str) -> str:
    return budget_id(_calls_queue(), name)


def _calls_queue() -> str:
    return of_quota_queue(activity.info().task_queue)[0]
