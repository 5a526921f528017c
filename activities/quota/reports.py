"""What this worker sees of quotas, told to the quotas' workflows once a second.

A report that is not delivered is lost, and nothing waits for it: the server keeps the last rate.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from temporalio import activity
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError

from durable_llm.contract.facts import FailureFacts
from durable_llm.contract.names import QUOTA_WORKFLOW, REPORT_SIGNAL
from durable_llm.contract.quotas import (
    HARDLY_ANYTHING,
    MOST_OUTCOMES,
    Outcomes,
    QuotaLimits,
    QuotaReport,
    Quotas,
    QuotaStart,
    learned_name,
    of_quota_queue,
    quota_id,
    quota_queue,
)
from durable_llm.contract.request import AttemptOrder, Prompt
from durable_llm.contract.result import Answer

from ..wire.exchange import Exchange
from .estimate import most_output_tokens, prompt_tokens
from .headroom import headroom_of

INTERVAL_S: Final = 1.0

_OUTPUT_BEFORE_ANY: Final = 200.0
"""Tokens of an answer whose length nobody has said, until one has been seen."""
_REFUSED: Final = 429
_KEPT_S: Final = 5.0
_COUNTS_WHAT_CAME: Final = "anthropic/"
"""Anthropic counts output tokens as they are written. OpenAI, and most that are compatible, count max_tokens when they
take the request (their guides to rate limits, 2026)."""
_TEXT: Final = 200
"""Characters of a failure's text in a report."""


class _Queue:
    """One quota's attempts of this worker since the last report."""

    def __init__(self) -> None:
        self.sent = 0
        self.reserved = 0.0
        self.settled = 0.0
        self.outcomes: list[Outcomes] = []
        self.headroom: float | None = None
        self.output = _OUTPUT_BEFORE_ANY
        self.has_quota = False
        """Whether an attempt came through the queue, so that there is a quota, declared or learned."""
        self._since = time.monotonic()

    def ended(self, failure: FailureFacts | None) -> None:
        """Add how an attempt ended, to the last run if that is alike."""
        last = self.outcomes[-1] if self.outcomes else None
        if last is not None and _kind(last.failure) == _kind(failure):
            self.outcomes[-1] = last.model_copy(update={"count": last.count + 1})
        else:
            self.outcomes = [*self.outcomes, Outcomes(failure=failure)][-MOST_OUTCOMES:]

    @property
    def is_limited(self) -> bool:
        """Whether the provider refused an attempt, or says that hardly anything is left."""
        refused = any(each.failure is not None and each.failure.http_status == _REFUSED for each in self.outcomes)
        return refused or (self.headroom is not None and self.headroom < HARDLY_ANYTHING)

    @property
    def has_news(self) -> bool:
        """Whether there is something to report: of an account without a quota only that it is limited."""
        return (self.has_quota or self.is_limited) and bool(self.sent or self.outcomes)

    def forget_old(self) -> None:
        """Begin anew every few seconds: nobody is told what went well."""
        if time.monotonic() - self._since > _KEPT_S:
            self.taken()

    def taken(self) -> QuotaReport:
        """The report, after which the next one begins."""
        report = QuotaReport(
            sent=self.sent, reserved_tokens=self.reserved, settled_tokens=self.settled, outcomes=self.outcomes,
            headroom=self.headroom,
        )  # fmt: skip
        self.sent, self.reserved, self.settled, self.outcomes, self.headroom = 0, 0.0, 0.0, [], None
        self._since = time.monotonic()
        return report


class Measured:
    """One attempt, as far as its quota is concerned."""

    def __init__(self, queue: _Queue, order: AttemptOrder) -> None:
        self._queue = queue
        self._order = order
        self._reserved = 0.0
        self._asked_for: int | None = None

    def begins(self, prompt: Prompt) -> None:
        """The request is about to be sent: reserve its tokens, if somebody counts them."""
        self._queue.sent += 1
        if not self._queue.has_quota:
            return
        self._asked_for = most_output_tokens(self._order.spec)
        self._reserved = prompt_tokens(prompt) + (self._asked_for or self._queue.output)
        self._queue.reserved += self._reserved

    def ends(self, outcome: Answer | FailureFacts, exchange: Exchange) -> None:
        """The outcome is known: settle."""
        failure = outcome if isinstance(outcome, FailureFacts) else None
        usage = outcome.usage
        if usage is not None:
            self._queue.output += 0.1 * (usage.completion_tokens - self._queue.output)
            real = float(usage.prompt_tokens + usage.completion_tokens)
            counts_limit = self._asked_for and not self._order.spec.name.startswith(_COUNTS_WHAT_CAME)
            self._queue.settled += (max(real, self._reserved) if counts_limit else real) - self._reserved
        elif failure is not None and self._reserved:
            self._queue.settled -= self._reserved  # nothing was generated
        if (headroom := headroom_of(exchange.headers)) is not None:
            self._queue.headroom = headroom
        self._queue.ended(_brief(failure) if failure else None)


def _brief(failure: FailureFacts) -> FailureFacts:
    """What classifies a failure, without what is long."""
    dropped: dict[str, Any] = {
        "text": failure.text[:_TEXT],
        "delay_headers": {},
        "answer": None,
        "usage": None,
        "cost": None,
    }
    return failure.model_copy(update=dropped)


def _kind(failure: FailureFacts | None) -> object:
    return failure and (failure.http_status, failure.error_code, failure.local_fault, failure.exception)


class QuotaReports:
    """Measures attempts that came through a quota's queue, and reports them.

    Args:
        quotas: What the operator declares, for a quota's workflow that has to be started again. None: nothing is
            reported.
    """

    def __init__(self, quotas: Quotas | None) -> None:
        self._quotas = quotas
        self._queues: dict[str, _Queue] = {}
        self._reporting: asyncio.Task[None] | None = None

    @contextmanager
    def measuring(self, order: AttemptOrder) -> Iterator[Measured | None]:
        """Measure the running attempt, also of an account without a quota: a 429 there concerns all workers."""
        if self._quotas is None or not activity.in_activity():
            yield None
            return
        task_queue = activity.info().task_queue
        has_quota = of_quota_queue(task_queue)[1] is not None
        if not has_quota:
            task_queue = quota_queue(task_queue, learned_name(order.spec))
        queue = self._queues.setdefault(task_queue, _Queue())
        queue.has_quota = has_quota
        yield Measured(queue, order)
        if not has_quota and not queue.is_limited:
            queue.forget_old()
            return
        if self._reporting is None or self._reporting.done():
            self._reporting = asyncio.create_task(self._report_soon(activity.client()))

    async def _report_soon(self, client: Client) -> None:
        """Report what has come together within a moment, until there is nothing more."""
        reported = True
        while reported:
            await asyncio.sleep(INTERVAL_S)
            reported = False
            for task_queue, queue in list(self._queues.items()):
                if queue.has_news:
                    reported = True
                    with suppress(RPCError):  # the server keeps the last rate
                        await tell_quota(client, task_queue, self._limits(task_queue), REPORT_SIGNAL, queue.taken())

    def _limits(self, task_queue: str) -> QuotaLimits:
        name = of_quota_queue(task_queue)[1]
        return next((quota.limits for quota in self._quotas or () if quota.name == name), QuotaLimits())

    async def close(self) -> None:
        """Stop reporting."""
        if self._reporting is not None:
            self._reporting.cancel()
            with suppress(asyncio.CancelledError):
                await self._reporting


async def tell_quota(
    client: Client, task_queue: str, limits: QuotaLimits, signal: str, message: QuotaReport | QuotaLimits
) -> None:
    """Signal the workflow of a quota, and start it if there is none.

    Args:
        client: The worker's client.
        task_queue: The quota's task queue.
        limits: What is declared, for a workflow that starts.
        signal: Which signal.
        message: Its argument.

    Raises:
        RPCError: the server did not take it.
    """
    await client.start_workflow(
        QUOTA_WORKFLOW, QuotaStart(task_queue=task_queue, limits=limits), id=quota_id(task_queue),
        task_queue=of_quota_queue(task_queue)[0], start_signal=signal, start_signal_args=[message],
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        static_summary=f"the rate of {of_quota_queue(task_queue)[1]}",
    )  # fmt: skip
