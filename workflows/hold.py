"""`LLMHold`: calls do not ask what it holds. It knows those that wait, and lets them go on when it ends."""

from typing import Final

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from datetime import timedelta

    from durable_llm.contract.control import Told
    from durable_llm.contract.holds import HoldStart
    from durable_llm.contract.names import HOLD_QUERY, HOLD_WORKFLOW, RELEASE_SIGNAL, WAIT_SIGNAL

    from .waking import wake

_AT_ONCE: Final = 100
_BETWEEN: Final = timedelta(seconds=1)
"""A hundred calls go on in a second: all at once would overrun what has just come back."""


@workflow.defn(name=HOLD_WORKFLOW)
class LLMHold:
    """One hold."""

    @workflow.init
    def __init__(self, start: HoldStart) -> None:
        self._hold = start.hold
        self._waiting = dict.fromkeys(start.call_ids)
        self._released: Told | None = None

    @workflow.signal(name=WAIT_SIGNAL)
    def wait(self, call_id: str) -> None:
        """Take a call that waits for the end of the hold."""
        self._waiting[call_id] = None
        self._show()

    @workflow.signal(name=RELEASE_SIGNAL)
    def release(self, released: Told) -> None:
        """End the hold."""
        self._released = released

    @workflow.query(name=HOLD_QUERY)
    def holds(self) -> bool:
        """Whether it still holds. While it lets calls go on, it does not."""
        return self._released is None

    @workflow.run
    async def run(self, start: HoldStart) -> None:  # noqa: ARG002  # the constructor took it
        """Hold until somebody releases it or its time is over, and then let the calls go on."""
        self._show()
        until = self._hold.until
        try:
            await workflow.wait_condition(
                lambda: self._released is not None or workflow.info().is_continue_as_new_suggested(),
                timeout=None if until is None else max(until - workflow.now(), timedelta(milliseconds=1)),
                timeout_summary="the end of the hold",
            )
        except TimeoutError:
            self._released = Told(why="its time was over")
        if self._released is None:
            workflow.continue_as_new(HoldStart(hold=self._hold, call_ids=list(self._waiting)))
        while self._waiting:
            await self._wake()

    async def _wake(self) -> None:
        """Let the first hundred go on. Calls that have ended are passed over."""
        call_ids = list(self._waiting)[:_AT_ONCE]
        for call_id in call_ids:  # before the signals: one may ask again before this hold has ended, and wait again
            del self._waiting[call_id]
        await wake(call_ids)
        self._show()
        if self._waiting:
            await workflow.sleep(_BETWEEN)

    def _show(self) -> None:
        hold, released = self._hold, self._released
        state = f"held by {hold.by or 'an operator'} since {hold.since:%Y-%m-%d %H:%M:%S} UTC: {hold.why}"
        if released is not None:
            state = f"released{f' by {released.by}' if released.by else ''}: {released.why}"
        workflow.set_current_details(f"**{hold.title}**: {state}. {len(self._waiting)} calls wait.")
