"""The workflow's side of one attempt: its order, its timeouts, and the facts of its failure."""

from datetime import timedelta
from typing import Final

from pydantic import ValidationError
from temporalio import workflow
from temporalio.common import RawValue, RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutType, is_cancelled_exception
from temporalio.exceptions import TimeoutError as TemporalTimeoutError

with workflow.unsafe.imports_passed_through():
    from durable_llm.attempt import clip
    from durable_llm.errors import DecryptionError
    from durable_llm.facts import TEXT_LIMIT, FailureFacts, LocalFault, Sent
    from durable_llm.heartbeat import response_of
    from durable_llm.names import ATTEMPT_ACTIVITY, ATTEMPT_FAILED, HEARTBEAT_TIMEOUT_FUNCTION, WORKER_SHUTDOWN
    from durable_llm.request import INLINE_PROMPT_BYTES, AttemptOrder
    from durable_llm.result import Answer

HOLD_ALLOWANCE: Final = timedelta(minutes=15)
"""How long an attempt may hold its answer while the Temporal server is away; heartbeats notice a dead worker sooner."""

DEFAULT_HEARTBEAT_TIMEOUT: Final = timedelta(seconds=60)

_NEVER_RETRIED: Final = RetryPolicy(maximum_attempts=1)
"""Temporal repeats nothing by itself: the policy does, so that every request has its entry in the ledger."""


async def run_attempt(order: AttemptOrder, prompt: RawValue, summary: str) -> Answer | FailureFacts:
    """Schedule one provider attempt and return its answer or the facts of its failure.

    Raises:
        ActivityError: the attempt was cancelled together with the call.
    """
    try:
        answer: Answer = await workflow.execute_activity(
            ATTEMPT_ACTIVITY,
            args=[order, _inline(prompt)],
            result_type=Answer,
            start_to_close_timeout=timedelta(seconds=order.timeout_s) + HOLD_ALLOWANCE,
            heartbeat_timeout=_heartbeat_timeout(),
            retry_policy=_NEVER_RETRIED,
            cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
            summary=summary,
        )
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        return _still_followed(facts_of(error), order.resume)
    return answer


def _still_followed(facts: FailureFacts, resume: str | None) -> FailureFacts:
    """A worker that was lost before its first heartbeat was following the response that its order named."""
    return facts if facts.response_id or not resume else facts.model_copy(update={"response_id": resume})


def _heartbeat_timeout() -> timedelta:
    """The worker's own setting; a replay does not compare timeouts."""
    offered = workflow.extern_functions().get(HEARTBEAT_TIMEOUT_FUNCTION)
    timeout: timedelta = offered() if offered else DEFAULT_HEARTBEAT_TIMEOUT
    return timeout


def _inline(prompt: RawValue) -> RawValue | None:
    """A small prompt travels as the payload it is, never decoded; a large one the attempt reads from the history."""
    return prompt if len(prompt.payload.data) <= INLINE_PROMPT_BYTES else None


def facts_of(error: ActivityError) -> FailureFacts:
    """The facts that an attempt reported, or those that Temporal knows of one that could not report."""
    match error.cause:
        case ApplicationError(type=kind) as cause if kind == ATTEMPT_FAILED:
            return _reported(cause)
        case ApplicationError(type=kind) if kind == WORKER_SHUTDOWN:
            return FailureFacts(local_fault=LocalFault.DRAINED, text="the worker was shut down during the attempt")
        case ApplicationError(cause=ApplicationError(type=kind) as cause) if kind == DecryptionError.__name__:
            return FailureFacts(
                local_fault=LocalFault.UNDECIPHERED, text=clip(cause.message, TEXT_LIMIT), request_sent=Sent.NO
            )
        case ApplicationError(type=kind) as cause:
            return FailureFacts(exception=kind, text=clip(cause.message, TEXT_LIMIT))
        case TemporalTimeoutError(type=kind, last_heartbeat_details=details):
            return _timed_out(kind, response_of(details))
    return FailureFacts(local_fault=LocalFault.LOST, text=clip(str(error.cause), TEXT_LIMIT))


def _reported(cause: ApplicationError) -> FailureFacts:
    try:
        return FailureFacts.model_validate(cause.details[0])
    except (IndexError, ValidationError):  # another version's activity: its text is still worth keeping
        return FailureFacts(exception=cause.type, text=clip(cause.message, TEXT_LIMIT))


def _timed_out(kind: TimeoutType | None, response_id: str | None) -> FailureFacts:
    if kind in (TimeoutType.SCHEDULE_TO_START, TimeoutType.SCHEDULE_TO_CLOSE):
        return FailureFacts(local_fault=LocalFault.LOST, text="no worker took the attempt", request_sent=Sent.NO)
    why = "its heartbeats stopped" if kind == TimeoutType.HEARTBEAT else "it never ended"
    return FailureFacts(
        local_fault=LocalFault.LOST, text=f"the worker was lost during the attempt: {why}", response_id=response_id
    )
