"""`LLMCall`: one durable call. It walks the chain of models, follows the policy and keeps the ledger.

Every decision depends on recorded facts only, so that a replay on another worker decides the same. The only clock and
the only random numbers are Temporal's, and the random numbers only change how long a wait lasts, never what comes next.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final, NoReturn

from pydantic import ValidationError
from temporalio import workflow
from temporalio.common import RawValue, SearchAttributeKey
from temporalio.contrib.workflow_streams import WorkflowStream
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from durable_llm.contract import search_attributes
    from durable_llm.contract.carried import Carried, Wait
    from durable_llm.contract.categories import Action, CallOutcome, Category
    from durable_llm.contract.facts import FailureFacts
    from durable_llm.contract.ledger import Attempt, bounded_entries, clip, shortened
    from durable_llm.contract.names import (
        ATTEMPT_ENDED_FUNCTION,
        ATTEMPTS_QUERY,
        EXTEND_VERSION,
        RESUME_SIGNAL,
        STATUS_QUERY,
        WORKFLOW,
    )
    from durable_llm.contract.quotas import of_quota_queue
    from durable_llm.contract.request import CHAT, DEADLINE_GRACE, MAX_INPUT_BYTES, AttemptOrder, CallRequest
    from durable_llm.contract.result import Answer, CallFailure, CallStatus, LLMResult
    from durable_llm.errors import ending_for

    from .attempts import quota_queue_of, run_attempt
    from .decision_log import log_decision
    from .details import current_details
    from .ledger import CallLedger
    from .policy.batch import batch_time
    from .policy.decide import PROGRESS_ON_WIRE, Decision, Progress
    from .policy.steering import given_up, skipped
    from .policy.versions import VERSIONS, stamped_version
    from .request import ABSENT, deadline_of, read_request
    from .waits import Waits

_SEARCH_ATTRIBUTES: Final[Mapping[str, SearchAttributeKey[Any]]] = {
    "outcome": search_attributes.OUTCOME,
    "model": search_attributes.MODEL,
    "category": search_attributes.ERROR_CATEGORY,
    "attempts": search_attributes.ATTEMPTS,
    "cost": search_attributes.COST_USD,
}

_HANDOVER: Final = DEADLINE_GRACE / 2
"""How long after its first deadline an extended call waits for an attempt, whose own limit is that deadline."""

_LONGEST_STREAMED_HISTORY: Final = 20_000
"""Events after which attempts publish no more. Pieces may be events, and Temporal ends a workflow at 51,200."""


@workflow.defn(name=WORKFLOW, failure_exception_types=[ValidationError])
class LLMCall(Waits):
    """One durable call."""

    _request: CallRequest

    def __init__(self) -> None:
        super().__init__()
        self._ledger = CallLedger(on_closed=_tell_telemetry)
        self._shown: dict[str, object] = {}
        WorkflowStream()  # takes what attempts publish, where Temporal is the place for streams

    @workflow.run
    async def run(self, request: RawValue = ABSENT, prompt: RawValue = ABSENT) -> LLMResult:
        """Answer the prompt, or fail with one of the contract's error types.

        Args:
            request: A CallRequest. It is decoded here, so that a request of a newer version ends with an error.
            prompt: A Prompt or a ContentReference, which goes to the attempts without being decoded.
        """
        self._request = read_request(request, prompt)
        self._progress = Progress(budgets=tuple(spec.max_retries for spec in self._request.models))
        self._prompt = prompt
        self._deadline = deadline_of(self._request)
        if self._request.carried is None:
            self._policy_version = stamped_version(workflow.patched)
        else:
            self._take_over(self._request.carried)
        return await self._within_deadline()

    @workflow.signal(name=RESUME_SIGNAL)
    def resume(self) -> None:
        """Go on: a budget has room."""
        self._woken = True

    @workflow.query(name=ATTEMPTS_QUERY)
    def attempts(self) -> list[Attempt]:
        """The ledger so far, bounded."""
        return bounded_entries(self._ledger.entries)

    @workflow.query(name=STATUS_QUERY)
    def status(self) -> CallStatus:
        """What the call is doing."""
        last = self._ledger.last
        return CallStatus(
            outcome=self._outcome,
            attempts=self._ledger.count,
            model=last.model if last else None,
            activity=self._activity,
            next_attempt_at=self._waiting.ends if self._waiting else None,
            waits=self._asking is None,
            interventions=self._ledger.interventions,
        )

    @property
    def _outcome(self) -> CallOutcome:
        if self._parked:
            return CallOutcome.PARKED
        return CallOutcome.PAUSED if self._paused else CallOutcome.RUNNING

    async def _within_deadline(self) -> LLMResult:
        """Walk the chain until the call's deadline or its cancellation."""
        remaining = await self._time_left()
        walk = asyncio.create_task(self._walk_chain())
        try:
            await self._ends(walk, remaining, "the call's deadline")
            if self._moves and self._given is None and not walk.done():
                await self._ends(walk, _HANDOVER, "the attempt's end; the deadline is extended")
        except asyncio.CancelledError:
            if not walk.done():
                await self._give_up(walk, "cancelled")
                self._show_end(CallOutcome.CANCELLED)
                raise
        if not walk.done():  # an answer that arrived at the same moment was paid for, and counts
            if self._given is not None:
                await self._give_up(walk, "ended by an operator")
                return self._ended(self._given)
            await self._stop_at_deadline(walk)
        return await walk

    async def _stop_at_deadline(self, walk: asyncio.Task[LLMResult]) -> NoReturn:
        """End the call, or this run of it if the deadline was extended."""
        if self._moves:
            await self._give_up(walk, "deadline extended")
            self._progress = given_up(self._progress)
            self._continue(resume=None)
        await self._give_up(walk, "deadline")
        self._fail_at_deadline()

    async def _ends(self, walk: asyncio.Task[LLMResult], within: timedelta, summary: str) -> None:
        """Wait until the walk ends or an operator gives the answer, or for so long."""
        with suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: walk.done() or self._given is not None, timeout=within, timeout_summary=summary
            )

    async def _time_left(self) -> timedelta:
        """Time until the deadline. If the first worker came after the deadline, the call ends before any attempt."""
        try:
            await asyncio.sleep(0)  # a cancellation from before the first worker arrives here
        except asyncio.CancelledError:
            self._show_end(CallOutcome.CANCELLED)
            raise
        remaining = self._deadline - workflow.now()
        if remaining <= timedelta(0):
            self._fail_at_deadline()
        return remaining

    async def _give_up(self, walk: asyncio.Task[LLMResult], why: str) -> None:
        walk.cancel()
        await asyncio.gather(walk, return_exceptions=True)
        self._ledger.cancelled(why, workflow.now())

    def _fail_at_deadline(self) -> NoReturn:
        self._show_end(CallOutcome.DEADLINE)
        self._fail(CallOutcome.DEADLINE, "the deadline passed before a model answered")

    async def _walk_chain(self) -> LLMResult:
        """Attempt, decide, wait, until an answer or until the policy ends the call."""
        carried = self._request.carried
        resume = None if carried is None else await self._go_on_waiting(carried)
        while True:
            index = self._progress.spec_index
            if self._paused:
                await self._until_resumed()
            if self._progress.spec_index != index:  # another model does not know the response
                resume = None
            if self._moves:
                self._continue(resume)
            outcome = await self._attempt(resume)
            if isinstance(outcome, Answer):
                self._ledger.answered(outcome, workflow.now())
                return self._ended(outcome)
            if outcome is None:
                resume = None
                continue
            if outcome.lacks_previous_response:
                self._needs_all_messages.add(self._progress.spec_index)
            decision = self._decide(outcome)
            await self._follow(decision, outcome)
            again = decision.action == Action.RETRY and self._progress.spec_index == decision.progress.spec_index
            resume = outcome.resumable if again else None

    async def _follow(self, decision: Decision, facts: FailureFacts) -> None:
        """Do what comes before the next attempt, or end the call."""
        delay = self._draw(decision) if decision.waits else None
        log_decision(self._ledger.entries[-1], delay)
        if decision.action == Action.FAIL:
            self._fail_by_policy(decision, facts)
        if delay is not None:
            await self._wait(Wait(ends=workflow.now() + timedelta(seconds=delay), reason=decision.reason))
        if decision.until_woken:
            await self._until_woken(f"paused: {facts.text}")
        if decision.action == Action.PARK:
            await self._park(decision.reason)

    async def _attempt(self, resume: str | None) -> Answer | FailureFacts | None:
        """One attempt on the current model; None if an operator made the call skip it.

        Args:
            resume: The id of the response that a lost attempt followed.
        """
        progress, spec = self._progress, self._request.models[self._progress.spec_index]
        previous = self._ledger.last
        entry = self._ledger.open(
            model=spec.name, spec_index=progress.spec_index, try_number=progress.tries + 1, now=workflow.now(),
            resumes=resume,
        )  # fmt: skip
        remaining = max((self._deadline - workflow.now()).total_seconds(), 0.1)
        may_batch = spec.batch and self._request.operation == CHAT
        line_s = batch_time(remaining, try_number=entry.try_number) if may_batch else None
        order = AttemptOrder(
            number=entry.number,
            spec=spec,
            spec_index=progress.spec_index,
            try_number=entry.try_number,
            timeout_s=line_s or min(spec.timeout or remaining, remaining),
            batch=line_s is not None,
            previous=previous,
            resume=resume,
            all_messages=progress.spec_index in self._needs_all_messages,
            last_model=not progress.has_next,
            operation=self._request.operation,
            budgets=self._request.budgets,
            streams=self._request.streams and workflow.info().get_current_history_length() < _LONGEST_STREAMED_HISTORY,
        )
        resumes = f", resumes {clip(resume, 60)}" if resume else ""
        batched = " in a batch" if order.batch else ""
        self._woken = False
        queue = quota_queue_of(order)
        quota = of_quota_queue(queue)[1] if queue else None
        self._ledger.queued(quota)
        through = f", by quota {quota}" if quota else ""
        summary = f"{spec.name}{batched}, try {entry.try_number} of {progress.tries_in_all}{resumes}{through}"
        since = f", by quota {quota} since {workflow.now():%H:%M:%S} UTC" if quota else ""
        self._doing(f"attempt {entry.number}: {spec.name}{batched}{since}")
        return await self._unless_skipped(run_attempt(order, self._prompt, summary, queue))

    async def _unless_skipped(
        self, attempt: Coroutine[Any, Any, Answer | FailureFacts]
    ) -> Answer | FailureFacts | None:
        """The attempt's outcome; None if an operator had the call skip its model before there was an answer."""
        self._asking = asking = asyncio.create_task(attempt)
        try:
            outcome: Answer | FailureFacts | None = await asking
        except (ActivityError, asyncio.CancelledError):
            walk = asyncio.current_task()
            stopped = walk is not None and walk.cancelling() > 0  # by the deadline or a cancellation
            if stopped or not self._skipping:
                raise
            outcome = None
        finally:
            self._asking = None
        if self._skipping and not isinstance(outcome, Answer):
            self._ledger.cancelled("skipped", workflow.now(), Action.NEXT)
            self._progress = skipped(given_up(self._progress))
            outcome = None
        self._skipping = False
        return outcome

    def _decide(self, facts: FailureFacts) -> Decision:
        """Classify the failure, decide what follows, and write both to the ledger."""
        remaining = (self._deadline - workflow.now()).total_seconds()
        decision = VERSIONS[self._policy_version].decide(facts, self._progress, self._request.policy, remaining)
        self._progress = decision.progress
        self._ledger.failed(facts, decision, workflow.now())
        if decision.category == Category.MISCONFIGURED:
            workflow.logger.warning("%s: %s", workflow.info().workflow_id, facts.headline())
        following = self._request.models[decision.progress.spec_index].name
        self._show(model=following, category=str(decision.category), attempts=self._ledger.count)
        return decision

    def _draw(self, decision: Decision) -> float:
        """Seconds to wait; only the length of a wait is random."""
        remaining = max((self._deadline - workflow.now()).total_seconds(), 0.0)
        drawn = decision.floor_s + workflow.random().uniform(0, decision.spread_s)
        return max(min(drawn, remaining), 0.001)

    def _continue(self, resume: str | None) -> NoReturn:
        """Go on in a run that lasts until the extended deadline.

        Args:
            resume: The id of the response that the next attempt follows.
        """
        size = len(self._prompt.payload.data) + len(self._request.model_dump_json(exclude={"carried"}).encode())
        carried = Carried(
            ledger=shortened(self._ledger.report(), MAX_INPUT_BYTES - size), unknown_costs=self._ledger.unknown_costs,
            progress=PROGRESS_ON_WIRE.dump_python(self._progress, mode="json"), policy_version=self._policy_version,
            paused=self._paused, parked=self._parked, wait=self._waiting, resume=resume,
            needs_all_messages=sorted(self._needs_all_messages),
        )  # fmt: skip
        request = self._request.model_copy(
            update={
                "schema_version": EXTEND_VERSION, "deadline_after_s": None, "deadline_at": self._deadline,
                "carried": carried,
            }
        )  # fmt: skip
        workflow.continue_as_new(
            args=[request, self._prompt],
            run_timeout=self._deadline - workflow.now() + DEADLINE_GRACE,
            search_attributes=workflow.info().typed_search_attributes,
        )

    def _take_over(self, carried: Carried) -> None:
        """Be where the call's previous run was."""
        self._ledger = CallLedger(on_closed=_tell_telemetry, before=carried.ledger, unknown_costs=carried.unknown_costs)
        self._progress = PROGRESS_ON_WIRE.validate_python(carried.progress)
        self._policy_version = carried.policy_version
        self._paused = carried.paused
        self._needs_all_messages = set(carried.needs_all_messages)

    def _ended(self, answer: Answer) -> LLMResult:
        index = self._progress.spec_index
        self._show_end(CallOutcome.ANSWERED, model=self._request.models[index].name)
        return LLMResult.model_validate({
            **dict(answer), **dict(self._ledger.report()),
            "policy_version": self._policy_version, "spec_index": index,
        })  # fmt: skip

    def _fail_by_policy(self, decision: Decision, facts: FailureFacts) -> NoReturn:
        outcome = decision.outcome or CallOutcome.EXHAUSTED
        self._show_end(outcome)
        last = self._ledger.entries[-1]
        text = f"{last.model}: {last.message}"
        if ending_for(outcome, facts.local_fault).fault is None:
            lead = "no model would take the request" if outcome == CallOutcome.REJECTED else "no model answered"
            text = f"{lead} ({decision.reason}); last was {text}"
        self._fail(outcome, text, facts)

    def _fail(self, outcome: CallOutcome, message: str, facts: FailureFacts | None = None) -> NoReturn:
        """End the call with the error that the table of endings has for this outcome and this last attempt."""
        last = self._ledger.last
        facts = facts or FailureFacts()
        details = CallFailure(
            **self._ledger.report().model_dump(),
            policy_version=self._policy_version,
            last_error=last.message if last else None,
            answer=facts.answer,
        )
        kind = ending_for(outcome, facts.local_fault).error
        raise ApplicationError(message, details, type=kind.__name__, non_retryable=True)

    def _shows_again(self) -> None:
        """Show in the UI what the call is doing, and its ledger."""
        workflow.set_current_details(current_details(self._ledger.entries, self._activity, self._ledger.interventions))

    def _show_end(self, outcome: CallOutcome, model: str | None = None) -> None:
        self._doing(outcome.value)
        report = self._ledger.report()
        # An unknown cost is not zero: the attribute stays unset until a part is known.
        cost = report.total_cost if report.cost_complete or report.total_cost else None
        self._show(outcome=outcome.value, model=model, attempts=report.attempts_total, cost=cost)

    def _show(self, **values: object) -> None:
        """Update the search attributes that changed; each update is an event of the history."""
        if not self._request.search_attributes:
            return
        known = {name: value for name, value in values.items() if value is not None}
        changed = [
            key.value_set(known[name])
            for name, key in _SEARCH_ATTRIBUTES.items()
            if name in known and self._shown.get(name) != known[name]
        ]
        self._shown.update(known)
        if changed:
            workflow.upsert_search_attributes(changed)


def _tell_telemetry(entry: Attempt) -> None:
    """Give the worker's telemetry, if there is one, the entry of an attempt that ended.

    Only the workflow knows how a failure was classified. The function must not change the call, since a call moves
    between workers with telemetry and without, and the function itself ignores replays.
    """
    attempt_ended = workflow.extern_functions().get(ATTEMPT_ENDED_FUNCTION)
    if attempt_ended is not None:
        attempt_ended(entry)
