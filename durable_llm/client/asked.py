"""What a call was asked, read back from its history."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import GetWorkflowExecutionHistoryRequest
from temporalio.client import Client

from durable_llm.client.connection import check_workflow_type
from durable_llm.client.stored import fetch
from durable_llm.contract.content import ContentReference
from durable_llm.contract.names import MEMO_METADATA
from durable_llm.contract.request import Prompt
from durable_llm.store import Store


@dataclass(frozen=True)
class Asked:
    """What a call was asked.

    Attributes:
        prompt: Messages, tools and the format of the answer.
        metadata: The labels that it was submitted with.
        started_at: When Temporal accepted it.
    """

    prompt: Prompt
    metadata: dict[str, str]
    started_at: datetime


async def read_asked(client: Client, store: Store | None, call_id: str) -> Asked:
    """What the call with this id was asked.

    Raises:
        CallConflictError: the id belongs to another kind of workflow.
        InvalidRequestError, DispatcherUnavailableError: the prompt is in a store, and cannot be fetched.
        RPCError: from the server, unchanged.
    """
    description = await client.get_workflow_handle(call_id).describe()
    check_workflow_type(description)
    page = await client.workflow_service.get_workflow_execution_history(
        GetWorkflowExecutionHistoryRequest(
            namespace=client.namespace, execution=WorkflowExecution(workflow_id=call_id), maximum_page_size=1
        )
    )
    given = page.history.events[0].workflow_execution_started_event_attributes.input.payloads[1]
    kind: Any = Prompt | ContentReference
    [prompt] = await client.data_converter.decode([given], [kind])
    if isinstance(prompt, ContentReference):
        prompt = await fetch(store, client.data_converter, prompt, Prompt)
    metadata: dict[str, str] = await description.memo_value(MEMO_METADATA, {}, type_hint=dict[str, str])
    return Asked(prompt, metadata, description.start_time)
