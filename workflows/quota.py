"""`LLMQuota`: keeps the rate of one quota's task queue. Its history shows each change and why.

Attempts wait in the queue, not here. If this workflow is gone or late, the server keeps the last rate.
"""

from typing import Final

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from datetime import timedelta

    from durable_llm.contract.categories import Category
    from durable_llm.contract.facts import FailureFacts
    from durable_llm.contract.names import (
        DECLARE_SIGNAL,
        QUOTA_QUERY,
        QUOTA_WORKFLOW,
        REPORT_SIGNAL,
        SET_RATE_ACTIVITY,
    )
    from durable_llm.contract.quotas import (
        QuotaLimits,
        QuotaRate,
        QuotaReport,
        QuotaStart,
        QuotaStatus,
        is_learned,
        of_quota_queue,
    )

    from .policy.quota import QuotaState, Rate, observe, pass_time, rate_of
    from .policy.versions import VERSIONS, stamped_version

_SHOWN: Final = 20
"""Changes of the rate that the UI shows."""

_SETTING: Final = timedelta(seconds=10)


@workflow.defn(name=QUOTA_WORKFLOW)
class LLMQuota:
    """The rate of one quota."""

    def __init__(self) -> None:
        self._reports: list[QuotaReport] = []
        self._declared: QuotaLimits | None = None
        self._rate: Rate | None = None
        self._changes: list[str] = []

    @workflow.signal(name=REPORT_SIGNAL)
    def report(self, report: QuotaReport) -> None:
        """Take what a worker saw."""
        self._reports.append(report)

    @workflow.signal(name=DECLARE_SIGNAL)
    def declare(self, limits: QuotaLimits) -> None:
        """Take what the operator declares; a worker says it when it starts."""
        self._declared = limits

    @workflow.query(name=QUOTA_QUERY)
    def status(self) -> QuotaStatus:
        """What the quota does now."""
        rate = self._rate or Rate(None, "starting")
        return QuotaStatus(name=self._name, per_second=rate.per_second, reason=rate.reason, limits=self._limits)

    @workflow.run
    async def run(self, start: QuotaStart) -> None:
        """Set the rate, and again whenever reports or time change it."""
        self._task_queue, self._limits = start.task_queue, start.limits
        self._name = of_quota_queue(start.task_queue)[1] or start.task_queue
        self._version = stamped_version(workflow.patched)
        state = QuotaState.model_validate(start.state)
        while True:
            state = self._up_to_date(state)
            rate = rate_of(state, self._limits)
            await self._set(rate)
            if is_learned(self._name) and rate.per_second is None and not self._reports:
                return  # nothing is limited any more; a 429 starts it again
            if not self._reports and workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(
                    QuotaStart(task_queue=start.task_queue, limits=self._limits, state=state.model_dump())
                )
            await self._anything(rate)

    def _up_to_date(self, state: QuotaState) -> QuotaState:
        """The state after all that came, and now."""
        now_s = workflow.time()
        self._limits, self._declared = self._declared or self._limits, None
        reports, self._reports = self._reports, []
        for report in reports:
            state = observe(
                state, report, self._limits, now_s, classify=self._category, jitter=workflow.random().random()
            )
        return pass_time(state, self._limits, now_s)

    async def _anything(self, rate: Rate) -> None:
        """Wait for a report, a declaration, or the moment at which the rate changes by itself."""
        timeout = None if rate.changes_in_s is None else max(rate.changes_in_s, 0.1)
        try:
            await workflow.wait_condition(lambda: bool(self._reports or self._declared), timeout=timeout)
        except TimeoutError:
            return

    def _category(self, failure: FailureFacts) -> Category:
        return VERSIONS[self._version].classify(failure).category

    async def _set(self, rate: Rate) -> None:
        """Tell the server, if the rate is another one. A change of less than a twentieth is not worth its events."""
        if self._rate is not None and _alike(self._rate.per_second, rate.per_second):
            return
        shown = "open" if rate.per_second is None else f"{rate.per_second:.2f}/s"
        self._changes = [*self._changes, f"- {workflow.now():%Y-%m-%d %H:%M:%S} {shown}: {rate.reason}"][-_SHOWN:]
        workflow.set_current_details("\n".join(reversed(self._changes)))
        await workflow.execute_activity(
            SET_RATE_ACTIVITY,
            QuotaRate(task_queue=self._task_queue, per_second=rate.per_second, reason=rate.reason),
            start_to_close_timeout=_SETTING, retry_policy=RetryPolicy(maximum_interval=_SETTING),
            summary=f"{shown}: {rate.reason}",
        )  # fmt: skip
        self._rate = rate


def _alike(old: float | None, new: float | None) -> bool:
    if old is None or new is None:
        return old is new
    return abs(new - old) <= 0.05 * max(old, new)
