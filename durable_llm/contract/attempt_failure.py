"""From the failure of an attempt to its facts: one reading, for workflow and history.

An attempt that could report has its facts with it. Of one that could not, Temporal knows how it ended. Read in two
ways, a running call's ledger and the one from its history would tell two stories of what was sent and paid.
"""

from pydantic import ValidationError
from temporalio.exceptions import ApplicationError, TimeoutType
from temporalio.exceptions import TimeoutError as TemporalTimeoutError

from durable_llm.contract.facts import TEXT_LIMIT, FailureFacts, LocalFault, Sent
from durable_llm.contract.heartbeat import response_of
from durable_llm.contract.ledger import clip
from durable_llm.contract.names import ATTEMPT_FAILED, WORKER_SHUTDOWN
from durable_llm.errors import DecryptionError


def facts_of(failure: BaseException | None, resume: str | None = None) -> FailureFacts:
    """The facts that an attempt reported, or those that Temporal knows of one that could not report.

    Args:
        failure: What the attempt's activity ended with: the cause of its ActivityError.
        resume: The response that its order named. A worker that was lost before its first heartbeat was following it.
    """
    facts = _facts_of(failure)
    return facts if facts.response_id or not resume else facts.model_copy(update={"response_id": resume})


def _facts_of(failure: BaseException | None) -> FailureFacts:
    match failure:
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
    return FailureFacts(local_fault=LocalFault.LOST, text=clip(str(failure), TEXT_LIMIT))


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
