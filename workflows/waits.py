"""How a call waits between two attempts: for time, for a budget or a hold, for an operator; and in its next run."""

from contextlib import suppress

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from durable_llm.contract.carried import Carried, Wait
    from durable_llm.contract.categories import CallOutcome
    from durable_llm.contract.ledger import wait_summary
    from durable_llm.contract.names import PAUSE_UPDATE

    from .control import Steered


class Waits(Steered):
    """A call as it waits. Each wait ends early when an operator extends the deadline, and goes on in another run."""

    def __init__(self) -> None:
        super().__init__()
        self._activity = "starting"
        """What the call is doing, in words."""
        self._waiting: Wait | None = None
        """The wait for a moment that goes on."""

    async def _wait(self, wait: Wait) -> None:
        """Wait on a durable timer, unless an operator ends the wait or extends the deadline."""
        began, before = workflow.now(), self._ledger.waited_s
        delay = max((wait.ends - began).total_seconds(), 0.001)
        self._ledger.waits(before + delay)
        self._doing(f"waiting {delay:.1f} s: {wait.reason}")
        self._waiting, self._woken = wait, False
        with suppress(TimeoutError):
            summary = wait_summary(delay, wait.reason)
            await workflow.wait_condition(lambda: self._woken or self._moves, timeout=delay, timeout_summary=summary)
            self._ledger.waits(before + (workflow.now() - began).total_seconds())
        if self._woken or not self._moves:
            self._waiting = None

    async def _until_woken(self, activity: str) -> None:
        """Wait without a timer, for room in a budget or for an operator."""
        began, before = workflow.now(), self._ledger.waited_s
        self._doing(activity)
        await workflow.wait_condition(lambda: self._woken or self._moves)
        self._ledger.waits(before + (workflow.now() - began).total_seconds())

    async def _park(self, reason: str) -> None:
        """Wait for an operator to resume the call; it spends nothing, and ends at its deadline."""
        self._parked, self._woken = reason, False
        self._show(outcome=CallOutcome.PARKED.value)
        until = f"an operator resumes it or {self._deadline:%Y-%m-%d %H:%M:%S} UTC"
        await self._until_woken(f"parked until {until}: {reason}")

    async def _until_resumed(self) -> None:
        """Wait for an operator who has paused the call."""
        pauses = [told for told in self._ledger.interventions if told.action == PAUSE_UPDATE]
        by, why = (pauses[-1].by, pauses[-1].why) if pauses else ("", "")  # the ledger has the last 50
        self._doing(f"paused by {by or 'an operator'}: {why or 'no reason given'}")
        await workflow.wait_condition(lambda: not self._paused or self._moves)

    async def _go_on_waiting(self, carried: Carried) -> str | None:
        """Wait as the call's previous run did. Returns the id of the response that the next attempt follows."""
        index = self._progress.spec_index
        if carried.parked is not None:
            await self._park(carried.parked)
        elif carried.wait is not None:
            await self._wait(carried.wait)
        return carried.resume if self._progress.spec_index == index else None

    def _doing(self, activity: str) -> None:
        """Say what the call is doing, in its status and in the UI."""
        self._activity = activity
        self._shows_again()
