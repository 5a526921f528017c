"""From the way a workflow ended to this package's errors."""

from typing import Any

from pydantic import ValidationError
from temporalio.client import WorkflowExecutionDescription, WorkflowFailureError
from temporalio.exceptions import ApplicationError, CancelledError, TerminatedError
from temporalio.exceptions import TimeoutError as TemporalTimeoutError

from durable_llm import errors
from durable_llm.contract.ledger import Attempt
from durable_llm.contract.names import WORKFLOW
from durable_llm.contract.result import CallFailure, LLMResult


def call_error(failure: WorkflowFailureError, call_id: str, attempts: list[Attempt]) -> errors.DurableLLMError:
    """The typed error for a call that ended without an answer.

    Args:
        failure: What awaiting the workflow raised.
        call_id: The call's id.
        attempts: The ledger from the history, for the endings that carry none.
    """
    known: dict[str, Any] = {"call_id": call_id, "attempts": attempts}
    match failure.cause:
        case ApplicationError() as cause:
            return _from_application_error(cause, call_id, attempts)
        case CancelledError():
            return errors.CallCancelledError(f"call {call_id!r} was cancelled", **known)
        case TemporalTimeoutError():
            text = f"call {call_id!r} passed its deadline while no worker was there to end it"
            return errors.DeadlineExceededError(text, **known)
        case TerminatedError() as cause:
            reason = f": {cause.message}" if cause.message else ""
            return errors.CallTerminatedError(f"call {call_id!r} was ended by force{reason}", **known)
    return errors.DurableLLMError(f"call {call_id!r} failed: {failure.cause}", **known)


def check_workflow_type(description: WorkflowExecutionDescription, call_id: str) -> None:
    """Refuse an id that belongs to somebody else's workflow.

    Raises:
        CallConflictError: it does.
    """
    if description.workflow_type != WORKFLOW:
        raise errors.CallConflictError(
            f"call id {call_id!r} belongs to a workflow of type {description.workflow_type!r}; use another id",
            differing=("workflow type",),
            call_id=call_id,
        )


def _from_application_error(cause: ApplicationError, call_id: str, attempts: list[Attempt]) -> errors.DurableLLMError:
    kind = errors.CALL_ENDINGS.get(cause.type or "", errors.DurableLLMError)
    details = _details(cause)
    if details.attempts:
        attempts = details.attempts
    message = f"call {call_id!r}: {cause.message}"
    if issubclass(kind, errors.AllModelsExhaustedError | errors.RequestRejectedError):
        return kind(message, last_error=details.last_error, call_id=call_id, attempts=attempts)
    if issubclass(kind, errors.BrokenValidatorError):
        return kind(message, answer=_unjudged(details), call_id=call_id, attempts=attempts)
    return kind(message, call_id=call_id, attempts=attempts)


def _unjudged(details: CallFailure) -> LLMResult | None:
    """The answer that was paid for, as the call would have returned it."""
    if details.answer is None:
        return None
    index = details.attempts[-1].spec_index if details.attempts else 0
    return LLMResult.model_validate({**details.model_dump(), **details.answer.model_dump(), "spec_index": index})


def _details(cause: ApplicationError) -> CallFailure:
    try:
        return CallFailure.model_validate(cause.details[0]) if cause.details else CallFailure()
    except ValidationError:
        return CallFailure()  # another version's details: the error's type and text still stand
