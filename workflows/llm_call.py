"""`LLMCall`: one durable call. Walks the chain of models, obeys the policy, keeps the ledger.

All that is decided here is decided from recorded facts, so that a replay on another worker decides the same: no clock
but Temporal's, no randomness but Temporal's, and that only for how long a wait lasts, never for what comes next.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn

from pydantic import ValidationError
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue, SearchAttributeUpdate
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from durable_llm.contract import search_attributes
    from durable_llm.contract.categories import Action, CallOutcome, Category
    from durable_llm.contract.facts import FailureFacts, LocalFault
    from durable_llm.contract.ledger import Attempt, bounded_entries, clip, wait_summary
    from durable_llm.contract.names import ATTEMPTS_QUERY, SCHEMA_VERSION, STATUS_QUERY, WORKFLOW
    from durable_llm.contract.request import AttemptOrder, CallRequest
    from durable_llm.contract.result import Answer, CallFailure, CallStatus, LLMResult
    from durable_llm.errors import (
        AllModelsExhaustedError,
        BrokenValidatorError,
        DeadlineExceededError,
        DurableLLMError,
        RequestRejectedError,
        UnsupportedRequestError,
        describe_validation_error,
    )

    from .attempts import run_attempt
    from .details import current_details
    from .ledger import CallLedger
    from .policy.decide import Decision, Progress
    from .policy.versions import VERSIONS, stamped_version
    from .telemetry import attempt_ended

_ABSENT: Final = RawValue(Payload())
"""Stands for a prompt that another client left out."""

_ERROR_OF: Final[Mapping[CallOutcome, type[DurableLLMError]]] = {
    CallOutcome.EXHAUSTED: AllModelsExhaustedError,
    CallOutcome.REJECTED: RequestRejectedError,
    CallOutcome.DEADLINE: DeadlineExceededError,
}
_ERROR_OF_FAULT: Final[Mapping[str, type[DurableLLMError]]] = {
    LocalFault.BROKEN_VALIDATOR: BrokenValidatorError,
    LocalFault.UNKNOWN_VALIDATOR: UnsupportedRequestError,
}
"""Faults of our own side that end a call by themselves, and that a caller mends otherwise than a rejected request."""


@workflow.defn(name=WORKFLOW, failure_exception_types=[ValidationError])
class LLMCall:
    """One durable call."""

    def __init__(self) -> None:
        self._ledger = CallLedger(on_closed=attempt_ended)
        self._activity = "starting"
        self._wait_ends: datetime | None = None
        self._shown: dict[str, object] = {}
        self._forgotten: set[int] = set()

    @workflow.run
    async def run(self, request: RawValue, prompt: RawValue = _ABSENT) -> LLMResult:
        """Answer the prompt, or fail with one of the contract's error types.

        Args:
            request: A CallRequest; decoded here, so that a request from the future is refused instead of stuck.
            prompt: A Prompt or a PromptReference, passed on to the attempts without being decoded.
        """
        self._request = decode_request(request)
        self._prompt = _required(prompt)
        self._deadline = _deadline(self._request)
        self._policy_version = stamped_version(workflow.patched)
        return await self._within_deadline()

    @workflow.query(name=ATTEMPTS_QUERY)
    def attempts(self) -> list[Attempt]:
        """The ledger so far, bounded."""
        return bounded_entries(self._ledger.entries)

    @workflow.query(name=STATUS_QUERY)
    def status(self) -> CallStatus:
        """Where the call stands."""
        last = self._ledger.last
        return CallStatus(
            outcome=CallOutcome.RUNNING,
            attempts=len(self._ledger.entries),
            model=last.model if last else None,
            activity=self._activity,
            next_attempt_at=self._wait_ends,
        )

    async def _within_deadline(self) -> LLMResult:
        """Walk the chain until the call's deadline or its cancellation."""
        remaining = await self._time_left()
        walk = asyncio.create_task(self._walk_chain())
        try:
            await workflow.wait_condition(walk.done, timeout=remaining, timeout_summary="the call's deadline")
        except TimeoutError:
            if not walk.done():  # an answer that arrived in the same moment was paid for, and counts
                await self._give_up(walk, "deadline")
                self._fail_at_deadline()
        except asyncio.CancelledError:
            if not walk.done():
                await self._give_up(walk, "cancelled")
                self._show_end(CallOutcome.CANCELLED)
                raise
        return await walk

    async def _time_left(self) -> timedelta:
        """Time until the deadline; ends a call for which every worker came too late, with nothing asked."""
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
        """Attempt, judge, wait, until an answer or the policy's end."""
        progress = Progress(budgets=tuple(spec.max_retries for spec in self._request.models))
        resume: str | None = None
        while True:
            outcome = await self._attempt(progress, resume)
            if isinstance(outcome, Answer):
                return self._answered(outcome, progress)
            decision = self._judge(outcome, progress)
            if decision.action == Action.FAIL:
                self._show_end(decision.outcome or CallOutcome.EXHAUSTED)
                self._fail(decision.outcome or CallOutcome.EXHAUSTED, self._last_words(decision, outcome), outcome)
            if decision.waits:
                await self._wait(decision)
            if outcome.lacks_previous_response:
                self._forgotten.add(progress.spec_index)
            resume = outcome.resumable if decision.action == Action.RETRY else None
            progress = decision.progress

    async def _attempt(self, progress: Progress, resume: str | None) -> Answer | FailureFacts:
        """One attempt on the present model; `resume` names the response that a lost worker left behind."""
        spec = self._request.models[progress.spec_index]
        previous = self._ledger.last
        entry = self._ledger.open(
            model=spec.name, spec_index=progress.spec_index, try_number=progress.tries + 1, now=workflow.now(),
            resumes=resume,
        )  # fmt: skip
        self._doing(f"attempt {entry.number}: {spec.name}")
        remaining = max((self._deadline - workflow.now()).total_seconds(), 0.1)
        order = AttemptOrder(
            number=entry.number,
            spec=spec,
            spec_index=progress.spec_index,
            try_number=entry.try_number,
            timeout_s=min(spec.timeout or remaining, remaining),
            previous=previous,
            resume=resume,
            all_messages=progress.spec_index in self._forgotten,
        )
        resumes = f", resumes {clip(resume, 60)}" if resume else ""
        tries = progress.budget + 1 + progress.lost + progress.restated + progress.keyless
        summary = f"{spec.name}, try {entry.try_number} of {tries}{resumes}"
        return await run_attempt(order, self._prompt, summary)

    def _judge(self, facts: FailureFacts, progress: Progress) -> Decision:
        remaining = (self._deadline - workflow.now()).total_seconds()
        verdict, decision = VERSIONS[self._policy_version].judge(facts, progress, self._request.policy, remaining)
        self._ledger.failed(facts, verdict, decision, workflow.now())
        if verdict.category == Category.MISCONFIGURED:
            workflow.logger.warning("%s: %s", workflow.info().workflow_id, facts.headline())
        following = self._request.models[decision.progress.spec_index].name
        self._show(model=following, category=verdict.category, attempts=len(self._ledger.entries))
        return decision

    async def _wait(self, decision: Decision) -> None:
        """Sleep on a durable timer; only the length of the wait is drawn."""
        remaining = max((self._deadline - workflow.now()).total_seconds(), 0.0)
        drawn = decision.floor_s + workflow.random().uniform(0, decision.spread_s)
        delay = max(min(drawn, remaining), 0.001)
        self._ledger.waits(delay)
        self._doing(f"waiting {delay:.1f} s: {decision.reason}")
        self._wait_ends = workflow.now() + timedelta(seconds=delay)
        await workflow.sleep(delay, summary=wait_summary(delay, decision.reason))
        self._wait_ends = None

    def _answered(self, answer: Answer, progress: Progress) -> LLMResult:
        self._ledger.answered(answer, workflow.now())
        self._show_end(CallOutcome.ANSWERED, model=self._request.models[progress.spec_index].name)
        report = self._ledger.report()
        return LLMResult(
            **report.model_dump(exclude={"attempts"}),
            attempts=report.attempts,
            policy_version=self._policy_version,
            choices=answer.choices,
            model=answer.model,
            spec_index=progress.spec_index,
            provider=answer.provider,
            system_fingerprint=answer.system_fingerprint,
            usage=answer.usage,
            cost=answer.cost,
            response_id=answer.response_id,
            structured=answer.structured,
            truncated=answer.truncated,
        )

    def _last_words(self, decision: Decision, facts: FailureFacts) -> str:
        last = self._ledger.last
        if facts.local_fault in _ERROR_OF_FAULT and last:
            return f"{last.model}: {last.message}"
        said = f"; last was {last.model}: {last.message}" if last else ""
        lead = "no model would take the request" if decision.outcome == CallOutcome.REJECTED else "no model answered"
        return f"{lead} ({decision.reason}){said}"

    def _fail(self, outcome: CallOutcome, message: str, facts: FailureFacts | None = None) -> NoReturn:
        last = self._ledger.last
        facts = facts or FailureFacts()
        kind = _ERROR_OF_FAULT.get(facts.local_fault or "", _ERROR_OF[outcome])
        details = CallFailure(
            **self._ledger.report().model_dump(),
            policy_version=self._policy_version,
            last_error=last.message if last else None,
            answer=facts.answer,
        )
        raise ApplicationError(message, details, type=kind.__name__, non_retryable=True)

    def _doing(self, activity: str) -> None:
        """Note what the call does now, for its status and for the UI."""
        self._activity = activity
        workflow.set_current_details(current_details(self._ledger.entries, activity))

    def _show_end(self, outcome: CallOutcome, model: str | None = None) -> None:
        self._doing(outcome.value)
        report = self._ledger.report()
        # An unknown cost is no cost of zero: the attribute stays unset until something is known.
        cost = report.total_cost if report.cost_complete or report.total_cost else None
        self._show(outcome=outcome, model=model, attempts=report.attempts_total, cost=cost)

    def _show(
        self, *, outcome: CallOutcome | None = None, model: str | None = None, category: str | None = None,
        attempts: int | None = None, cost: float | None = None,
    ) -> None:  # fmt: skip
        """Update the search attributes that changed; each update is an event of the history."""
        if not self._request.search_attributes:
            return
        wanted: dict[str, tuple[SearchAttributeUpdate[Any], object]] = {}
        if outcome is not None:
            wanted["outcome"] = search_attributes.OUTCOME.value_set(outcome.value), outcome
        if model is not None:
            wanted["model"] = search_attributes.MODEL.value_set(model), model
        if category is not None:
            wanted["category"] = search_attributes.ERROR_CATEGORY.value_set(str(category)), category
        if attempts is not None:
            wanted["attempts"] = search_attributes.ATTEMPTS.value_set(attempts), attempts
        if cost is not None:
            wanted["cost"] = search_attributes.COST_USD.value_set(cost), cost
        changed = [update for name, (update, value) in wanted.items() if self._shown.get(name) != value]
        self._shown.update({name: value for name, (_, value) in wanted.items()})
        if changed:
            workflow.upsert_search_attributes(changed)


def decode_request(raw: RawValue) -> CallRequest:
    """The request, if this version understands it.

    Raises:
        ApplicationError: of type UnsupportedRequestError; the call ends instead of being stuck.
    """
    try:
        request = workflow.payload_converter().from_payload(raw.payload, CallRequest)
    except ValidationError as error:
        raise _unsupported(describe_validation_error(error)) from None
    except Exception as error:  # whatever a converter raises for an encoding that this worker does not have
        raise _unsupported(f"its payload cannot be decoded: {type(error).__name__}") from None
    if not isinstance(request, CallRequest):
        raise _unsupported("it is empty")
    if request.schema_version > SCHEMA_VERSION:
        raise _unsupported(f"its schema version is {request.schema_version} and this worker knows {SCHEMA_VERSION}")
    return request


def _required(prompt: RawValue) -> RawValue:
    if prompt is _ABSENT:
        raise _unsupported("it has no prompt")
    return prompt


def _unsupported(reason: str) -> ApplicationError:
    return ApplicationError(
        f"this worker does not understand the request ({reason}); upgrade the workers",
        type=UnsupportedRequestError.__name__,
        non_retryable=True,
    )


def _deadline(request: CallRequest) -> datetime:
    if request.deadline_at is not None:
        at = request.deadline_at
        return at if at.tzinfo else at.replace(tzinfo=UTC)
    return workflow.info().workflow_start_time + timedelta(seconds=request.deadline_after_s or 86_400)
