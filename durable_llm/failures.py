"""From the way a workflow ended to this package's errors."""

from typing import NoReturn

from pydantic import ValidationError
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError, CancelledError, TerminatedError
from temporalio.exceptions import TimeoutError as TemporalTimeoutError

from durable_llm import errors
from durable_llm.attempt import Attempt
from durable_llm.result import CallFailure


def raise_call_error(failure: WorkflowFailureError, call_id: str, attempts: list[Attempt]) -> NoReturn:
    """Raise the typed error for a call that ended without an answer.

    Args:
        failure: What awaiting the workflow raised.
        call_id: The call's id.
        attempts: The ledger from the history, for the endings that carry none.
    """
    match failure.cause:
        case ApplicationError() as cause:
            raise _from_application_error(cause, call_id, attempts) from failure
        case CancelledError():
            raise errors.CallCancelledError(
                f"call {call_id!r} was cancelled", call_id=call_id, attempts=attempts
            ) from failure
        case TemporalTimeoutError():
            raise errors.DeadlineExceededError(
                f"call {call_id!r} passed its deadline while no worker was there to end it",
                call_id=call_id,
                attempts=attempts,
            ) from failure
        case TerminatedError() as cause:
            reason = f": {cause.message}" if cause.message else ""
            raise errors.CallTerminatedError(
                f"call {call_id!r} was ended by force{reason}", call_id=call_id, attempts=attempts
            ) from failure
    raise errors.DurableLLMError(f"call {call_id!r} failed: {failure.cause}", call_id=call_id, attempts=attempts)


def _from_application_error(cause: ApplicationError, call_id: str, attempts: list[Attempt]) -> errors.DurableLLMError:
    kind = errors.CALL_ENDINGS.get(cause.type or "", errors.DurableLLMError)
    details = _details(cause)
    if details.attempts:
        attempts = details.attempts
    message = f"call {call_id!r}: {cause.message}"
    if issubclass(kind, errors.AllModelsExhaustedError | errors.RequestRejectedError):
        return kind(message, last_error=details.last_error, call_id=call_id, attempts=attempts)
    return kind(message, call_id=call_id, attempts=attempts)


def _details(cause: ApplicationError) -> CallFailure:
    try:
        return CallFailure.model_validate(cause.details[0]) if cause.details else CallFailure()
    except ValidationError:
        return CallFailure()  # another version's details: the error's type and text still stand
