"""Between the failure of an attempt's activity and facts: one reading, for the workflow and for readers of histories.

An attempt that could report carries its facts. For one that could not, Temporal knows only how it ended. With two
readings, a running call's ledger and the ledger from its history would disagree on what was sent and paid.
"""

from pydantic import ValidationError
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory, TimeoutType
from temporalio.exceptions import TimeoutError as TemporalTimeoutError

from durable_llm.contract.facts import TEXT_LIMIT, FailureFacts, LocalFault, Sent
from durable_llm.contract.heartbeat import response_of
from durable_llm.contract.ledger import clip
from durable_llm.contract.names import ATTEMPT_FAILED, DECRYPTION_ERROR, WORKER_SHUTDOWN
from durable_llm.contract.request import AttemptOrder


def facts_of_activity_failure(failure: BaseException | None, order: AttemptOrder) -> FailureFacts:
    """The facts that an attempt reported, or what Temporal knows about an attempt that could not report.

    Args:
        failure: What the attempt's activity ended with: the cause of its ActivityError.
        order: What the attempt was to do. A worker that was lost before its first heartbeat was following the response
            that the order names.
    """
    if order.batch and isinstance(failure, TemporalTimeoutError):
        text = f"the provider's batch has not ended within {order.timeout_s:.0f} s"
        return FailureFacts(local_fault=LocalFault.TIMEOUT, text=text, request_sent=Sent.YES)
    facts = _read(failure)
    return facts if facts.response_id or not order.resume else facts.model_copy(update={"response_id": order.resume})


def failure_of(facts: FailureFacts) -> ApplicationError:
    """What the activity of an attempt ends with that has failed. Temporal does not retry it."""
    return ApplicationError(
        facts.headline(), facts, type=ATTEMPT_FAILED, non_retryable=True, category=ApplicationErrorCategory.BENIGN
    )


def _read(failure: BaseException | None) -> FailureFacts:
    match failure:
        case ApplicationError(type=kind, details=[reported, *_]) as error if kind == ATTEMPT_FAILED:
            try:
                return FailureFacts.model_validate(reported)
            except ValidationError:  # another version's activity: its text is still worth keeping
                return FailureFacts(exception=kind, text=clip(error.message, TEXT_LIMIT))
        case ApplicationError(type=kind) if kind == WORKER_SHUTDOWN:
            return FailureFacts(local_fault=LocalFault.DRAINED, text="the worker was shut down during the attempt")
        case ApplicationError(cause=ApplicationError(type=kind) as cause) if kind == DECRYPTION_ERROR:
            return FailureFacts(
                local_fault=LocalFault.UNDECIPHERED, text=clip(cause.message, TEXT_LIMIT), request_sent=Sent.NO
            )
        case ApplicationError(type=kind) as error:
            undecoded = error.message == "Failed decoding arguments"  # the SDK's words
            known = {"local_fault": LocalFault.UNDECODABLE, "request_sent": Sent.NO} if undecoded else {}
            return FailureFacts(exception=kind, text=clip(error.message, TEXT_LIMIT), **known)
        case TemporalTimeoutError(type=TimeoutType.SCHEDULE_TO_START | TimeoutType.SCHEDULE_TO_CLOSE):
            return FailureFacts(local_fault=LocalFault.LOST, text="no worker took the attempt", request_sent=Sent.NO)
        case TemporalTimeoutError(type=kind, last_heartbeat_details=details):
            why = "its heartbeats stopped" if kind == TimeoutType.HEARTBEAT else "it never ended"
            text = f"the worker was lost during the attempt: {why}"
            return FailureFacts(local_fault=LocalFault.LOST, text=text, response_id=response_of(details))
    return FailureFacts(local_fault=LocalFault.LOST, text=clip(str(failure), TEXT_LIMIT))
