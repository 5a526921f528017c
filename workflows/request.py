"""The first lines of a call: read its request, or end the call with an error that says what is wrong.

A request that this worker cannot read must not raise anything else: Temporal would retry the workflow task forever.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError
from temporalio.worker import ExecuteWorkflowInput, WorkflowInboundInterceptor

with workflow.unsafe.imports_passed_through():
    from durable_llm.contract.names import SCHEMA_VERSION, WORKFLOW
    from durable_llm.contract.request import CallRequest
    from durable_llm.contract.wire import describe_validation_error
    from durable_llm.errors import UnsupportedRequestError

ABSENT: Final = RawValue(Payload())
"""Stands for a prompt that a client left out."""


def read_request(raw: RawValue, prompt: RawValue) -> CallRequest:
    """The request, if this version understands it and it came with a prompt.

    Raises:
        ApplicationError: it does not; of type UnsupportedRequestError.
    """
    if raw is ABSENT:
        raise _unsupported("it is empty")
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
    if prompt is ABSENT:
        raise _unsupported("it has no prompt")
    return request


class RefuseSurplusArguments(WorkflowInboundInterceptor):
    """Ends a call that was started with more arguments than it takes. Temporal would repeat its first task forever."""

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:  # noqa: A002  # Temporal's own name for it
        """See base class."""
        if workflow.info().workflow_type == WORKFLOW and len(input.args) > 2:
            raise _unsupported(f"it has {len(input.args)} arguments instead of a request and a prompt")
        return await super().execute_workflow(input)


def deadline_of(request: CallRequest) -> datetime:
    """The moment at which the call ends in any case."""
    if request.deadline_at is not None:
        at = request.deadline_at
        return at if at.tzinfo else at.replace(tzinfo=UTC)
    return workflow.info().workflow_start_time + timedelta(seconds=request.deadline_after_s or 86_400)


def _unsupported(reason: str) -> ApplicationError:
    return ApplicationError(
        f"this worker does not understand the request ({reason}); upgrade the workers",
        type=UnsupportedRequestError.__name__,
        non_retryable=True,
    )
