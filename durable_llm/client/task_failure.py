"""Why a running call stands still although workers poll its queue: each of them fails its workflow task.

Temporal gives such a task out again until a worker can do it, for example one that has the encryption key. To the
caller that looks like a call that takes long, and the reason stands in a history that nobody reads.
"""

from typing import Final

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import GetWorkflowExecutionHistoryReverseRequest
from temporalio.client import Client, WorkflowExecutionDescription

from durable_llm.contract.ledger import clip
from durable_llm.errors import DecryptionError

_LAST_EVENTS: Final = 20
_TEXT_BYTES: Final = 500


async def task_failure(client: Client, description: WorkflowExecutionDescription) -> str | None:
    """What the worker said that failed the call's present task; None where no task has failed.

    Raises temporalio.service.RPCError as the server gives it.
    """
    if description.raw_description.pending_workflow_task.attempt < 2:  # 1 is a task that nobody has failed
        return None
    execution = WorkflowExecution(workflow_id=description.id, run_id=description.run_id)
    request = GetWorkflowExecutionHistoryReverseRequest(
        namespace=client.namespace, execution=execution, maximum_page_size=_LAST_EVENTS
    )
    page = await client.workflow_service.get_workflow_execution_history_reverse(request)
    for event in page.history.events:
        if event.HasField("workflow_task_failed_event_attributes"):
            failure = event.workflow_task_failed_event_attributes.failure
            try:
                said = str(await client.data_converter.decode_failure(failure))
            except DecryptionError as error:
                said = error.message
            return clip(" ".join(said.split()), _TEXT_BYTES)
    return None
