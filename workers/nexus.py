"""The handler of the Nexus service: starts a call, or attaches to the one that has the id."""

from nexusrpc.handler import service_handler
from temporalio import nexus
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from durable_llm.client.submission import (
    check_same_request,
    memo_of,
    search_attributes_of,
    time_left,
)
from durable_llm.contract.names import WORKFLOW
from durable_llm.contract.nexus import DurableLLMService, NexusCall
from durable_llm.contract.request import DEADLINE_GRACE
from durable_llm.contract.result import LLMResult
from durable_llm.errors import CallConflictError


@service_handler(service=DurableLLMService)
class NexusHandler:
    """Calls for workflows that reach this worker over an endpoint."""

    @nexus.temporal_operation
    async def call(
        self,
        _: nexus.TemporalStartOperationContext,
        client: nexus.TemporalNexusClient,
        given: NexusCall,
    ) -> nexus.TemporalOperationResult[LLMResult]:
        """Start the call, or attach to the one that has the id and asks the same. One that has ended answers at once.

        Raises:
            ApplicationError: the id belongs to another request, or the call that has it failed.
        """
        await _check_owner(client.client, given)
        try:
            return await client.start_workflow(
                WORKFLOW,
                args=[given.request, given.prompt],
                id=given.call_id,
                result_type=LLMResult,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                run_timeout=time_left(given.request) + DEADLINE_GRACE,
                memo=memo_of(given),
                search_attributes=search_attributes_of(given.request),
                priority=given.share.for_temporal,
            )
        except WorkflowAlreadyStartedError:
            return nexus.TemporalOperationResult.sync(await _stored(client.client, given.call_id))


async def _check_owner(client: Client, given: NexusCall) -> None:
    """Refuse an id that belongs to another request, or to another kind of workflow."""
    try:
        description = await client.get_workflow_handle(given.call_id).describe()
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return
        raise
    try:
        await check_same_request(description, given.fingerprint)
    except CallConflictError as error:
        raise ApplicationError(
            error.message, *error.differing, type=CallConflictError.__name__, non_retryable=True
        ) from None


async def _stored(client: Client, call_id: str) -> LLMResult:
    """The result of a call that has ended, or its failure."""
    try:
        result: LLMResult = await client.get_workflow_handle(call_id, result_type=LLMResult).result()
    except WorkflowFailureError as failure:
        if isinstance(failure.cause, ApplicationError):
            raise failure.cause from None
        text = f"call {call_id!r} has ended without an answer: {failure.cause}"
        raise ApplicationError(text, type=type(failure.cause).__name__, non_retryable=True) from None
    return result
