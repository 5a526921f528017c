"""A handle on one call: its result, its ledger, its status, and the way to cancel it."""

import asyncio
import logging
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
)
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from durable_llm import search_attributes
from durable_llm.attempt import Attempt
from durable_llm.categories import CallOutcome
from durable_llm.connection import Rpcs
from durable_llm.errors import DurableLLMError
from durable_llm.failures import raise_call_error
from durable_llm.history import ledger_from_history
from durable_llm.names import ATTEMPTS_QUERY, STATUS_QUERY
from durable_llm.result import CallStatus, LLMResult

logger = logging.getLogger("durable_llm")

QUERY_S: Final = 1.0
"""Seconds that a worker gets to answer a query before the history is read instead."""

_WITH_LEDGER = (WorkflowExecutionStatus.COMPLETED, WorkflowExecutionStatus.FAILED)


class CallHandle:
    """One call, running or ended. Cheap: holds an id and no connection of its own.

    Attributes:
        call_id: The call's id, with which any process can attach to it.
    """

    def __init__(
        self,
        client: Client,
        rpcs: Rpcs,
        call_id: str,
        *,
        response_type: type[BaseModel] | None = None,
        warn_without_workers: timedelta,
    ) -> None:
        self.call_id = call_id
        self._client = client
        self._rpcs = rpcs
        self._response_type = response_type
        self._warn_after = warn_without_workers
        self._workflow: WorkflowHandle[Any, LLMResult] = client.get_workflow_handle(call_id, result_type=LLMResult)

    def __repr__(self) -> str:
        return f"CallHandle({self.call_id!r})"

    async def result(self, wait: timedelta | None = None) -> LLMResult:
        """The call's answer, waited for as long as it takes or `wait` says.

        Raises:
            AllModelsExhaustedError, RequestRejectedError, DeadlineExceededError, CallCancelledError,
            CallTerminatedError, UnsupportedRequestError: the call ended so; each has the ledger.
            ResultNotReadyError: `wait` passed; the call goes on.
            CallNotFoundError, DispatcherUnavailableError: the server says so.
        """
        watch = asyncio.create_task(self._warn_without_workers())
        try:
            result = await self._rpcs.run(self._workflow.result(), call_id=self.call_id, wait=wait, result=True)
        except WorkflowFailureError as failure:
            carries_ledger = isinstance(failure.cause, ApplicationError)
            raise_call_error(failure, self.call_id, [] if carries_ledger else await self._ledger_or_nothing())
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        return self._parsed(result)

    async def attempts(self) -> list[Attempt]:
        """The ledger so far, within two seconds, worker or no worker.

        Raises:
            CallNotFoundError, DispatcherUnavailableError: the server says so.
        """
        description = await self._describe()
        if description.status in _WITH_LEDGER:
            try:
                return (await self.result()).attempts
            except DurableLLMError as error:
                return error.attempts
        if description.status == WorkflowExecutionStatus.RUNNING:
            entries: list[Attempt] | None = await self._query(ATTEMPTS_QUERY, list[Attempt])
            if entries is not None:
                return entries
        return await self._rpcs.run(
            ledger_from_history(self._workflow, self._client.data_converter), call_id=self.call_id
        )

    async def status(self) -> CallStatus:
        """Where the call stands, within two seconds, worker or no worker.

        Raises:
            CallNotFoundError, DispatcherUnavailableError: the server says so.
        """
        description = await self._describe()
        if description.status == WorkflowExecutionStatus.RUNNING:
            status: CallStatus | None = await self._query(STATUS_QUERY, CallStatus)
            if status is not None:
                return status.model_copy(update={"call_id": self.call_id, "workers": True})
        return await self._status_from_description(description)

    async def cancel(self) -> None:
        """Ask the call to end; it does within two seconds of a worker's time, its open request after a heartbeat.

        Cancelling a call that has ended does nothing.

        Raises:
            CallNotFoundError, DispatcherUnavailableError: the server says so.
        """
        await self._rpcs.run(self._workflow.cancel(), call_id=self.call_id)

    async def _describe(self) -> WorkflowExecutionDescription:
        return await self._rpcs.run(self._workflow.describe(), call_id=self.call_id)

    async def _query(self, name: str, kind: type[Any]) -> Any:
        """The worker's answer, or None where none comes in time."""
        try:
            async with asyncio.timeout(QUERY_S):
                return await self._workflow.query(name, result_type=kind, rpc_timeout=timedelta(seconds=QUERY_S))
        except (RPCError, TimeoutError):
            return None
        except Exception as error:  # a query that the worker's version fails to answer must not hide the history
            logger.debug("query %s of %s: %s", name, self.call_id, error)
            return None

    async def _status_from_description(self, description: WorkflowExecutionDescription) -> CallStatus:
        running = description.status == WorkflowExecutionStatus.RUNNING
        entries = await self._ledger_or_nothing()
        recorded = description.typed_search_attributes.get(search_attributes.OUTCOME)
        outcome = CallOutcome(recorded) if recorded in set(CallOutcome) else None
        if not running and outcome == CallOutcome.RUNNING:
            outcome = _OUTCOME_BY_STATUS.get(description.status) if description.status else None
        workers = await self._has_workers(description.task_queue) if running else None
        return CallStatus(
            call_id=self.call_id,
            outcome=outcome or (_OUTCOME_BY_STATUS.get(description.status) if description.status else None),
            attempts=len(entries),
            model=entries[-1].model if entries else None,
            activity=self._activity(description, workers),
            workers=workers,
        )

    def _activity(self, description: WorkflowExecutionDescription, workers: bool | None) -> str:
        if description.status != WorkflowExecutionStatus.RUNNING:
            return f"ended: {description.status.name.lower() if description.status else 'unknown'}"
        if workers is False:
            return f"waiting: no worker polls task queue {description.task_queue!r}"
        return "running"

    async def _ledger_or_nothing(self) -> list[Attempt]:
        """The ledger from the history; [] where it cannot be read, since an ending is told with or without it."""
        with suppress(DurableLLMError):
            return await self._rpcs.run(
                ledger_from_history(self._workflow, self._client.data_converter), call_id=self.call_id
            )
        return []

    async def _warn_without_workers(self) -> None:
        """Say so when nobody works on the call, instead of waiting in silence."""
        await asyncio.sleep(self._warn_after.total_seconds())
        with suppress(RPCError, DurableLLMError):
            task_queue = (await self._workflow.describe()).task_queue
            if not await self._has_workers(task_queue):
                logger.warning(
                    "call %r waits: no worker polls task queue %r of namespace %r; start one with "
                    "'python -m workers' or 'durable-llm worker'",
                    self.call_id, task_queue, self._client.namespace,
                )  # fmt: skip

    async def _has_workers(self, task_queue: str) -> bool:
        request = DescribeTaskQueueRequest(
            namespace=self._client.namespace,
            task_queue=TaskQueue(name=task_queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
        return bool((await self._client.workflow_service.describe_task_queue(request)).pollers)

    def _parsed(self, result: LLMResult) -> LLMResult:
        """With the instance in `parsed`; None where the model's text is none, which a paid answer survives."""
        if self._response_type is None:
            return result
        with suppress(ValidationError):
            return result.model_copy(update={"parsed": self._response_type.model_validate_json(result.text or "")})
        return result


_OUTCOME_BY_STATUS = {
    WorkflowExecutionStatus.RUNNING: CallOutcome.RUNNING,
    WorkflowExecutionStatus.COMPLETED: CallOutcome.ANSWERED,
    WorkflowExecutionStatus.CANCELED: CallOutcome.CANCELLED,
    WorkflowExecutionStatus.TIMED_OUT: CallOutcome.DEADLINE,
}
