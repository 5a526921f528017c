"""A handle on one call: its result, its ledger, its status, and the way to cancel it."""

import asyncio
import functools
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Final

from pydantic import BaseModel
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
)
from temporalio.exceptions import ApplicationError, CancelledError, TerminatedError
from temporalio.service import RPCError

from durable_llm.client.connection import Rpcs, until_answered
from durable_llm.client.endings import call_error, check_workflow_type
from durable_llm.client.history import ledger_from_history
from durable_llm.client.long_polls import LongPolls
from durable_llm.client.worker_watch import WorkerWatch
from durable_llm.contract.categories import CallOutcome
from durable_llm.contract.ledger import Attempt
from durable_llm.contract.names import ATTEMPTS_QUERY, STATUS_QUERY
from durable_llm.contract.result import CallStatus, LLMResult
from durable_llm.errors import (
    AllModelsExhaustedError,
    BrokenValidatorError,
    DeadlineExceededError,
    DecryptionError,
    DurableLLMError,
    RequestRejectedError,
    UnsupportedRequestError,
)

logger = logging.getLogger("durable_llm")

QUERY_S: Final = 1.0
"""Seconds that a worker gets to answer a query before the history is read instead."""

ANSWER_WITHIN: Final = timedelta(seconds=2)
"""How long `attempts` and `status` take at most, worker or no worker."""

_WITH_LEDGER = (WorkflowExecutionStatus.COMPLETED, WorkflowExecutionStatus.FAILED)
_LEDGER_IN_MEMORY = (WorkflowExecutionStatus.RUNNING, WorkflowExecutionStatus.CANCELED)


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
        polls: LongPolls,
        watch: WorkerWatch,
        response_type: type[BaseModel] | None = None,
    ) -> None:
        self.call_id = call_id
        self._client = client
        self._rpcs = rpcs
        self._response_type = response_type
        self._polls = polls
        self._watch = watch
        self._workflow: WorkflowHandle[Any, LLMResult] = client.get_workflow_handle(call_id, result_type=LLMResult)

    def __repr__(self) -> str:
        return f"CallHandle({self.call_id!r})"

    async def result(self, wait: timedelta | None = None) -> LLMResult:
        """The call's answer, waited for as long as it takes or `wait` says.

        Raises:
            AllModelsExhaustedError, RequestRejectedError, DeadlineExceededError, CallCancelledError,
            CallTerminatedError, UnsupportedRequestError, BrokenValidatorError: the call ended so; each has the ledger.
            DurableLLMError: the call ended, and this version of the client cannot read what came of it.
            DecryptionError: the call ended, and this process lacks the key for what came of it.
            ResultNotReadyError: `wait` passed; the call goes on.
            CallNotFoundError, DispatcherUnavailableError: the server says so.
        """
        watch = asyncio.create_task(self._watch.warn(self.call_id, self._described))
        try:
            with _readable("result", self.call_id):
                result = await self._rpcs.run(until_answered(self._end), call_id=self.call_id, wait=wait, result=True)
            if not result.choices:  # no answer of ours has none
                await self._described()
        except WorkflowFailureError as failure:
            carries_ledger = isinstance(failure.cause, ApplicationError)
            attempts = (
                [] if carries_ledger else await self._ledger_or_nothing(isinstance(failure.cause, CancelledError))
            )
            raise call_error(failure, self.call_id, attempts) from failure
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        return self._parsed(result)

    async def attempts(self) -> list[Attempt]:
        """The ledger so far, within two seconds, worker or no worker.

        Raises:
            DurableLLMError: this version of the client cannot read it.
            CallNotFoundError, DispatcherUnavailableError: the server says so.
        """
        return await self._rpcs.run(self._attempts(), call_id=self.call_id, wait=ANSWER_WITHIN)

    async def status(self) -> CallStatus:
        """Where the call stands, within two seconds, worker or no worker.

        Raises:
            DurableLLMError: it ended, and this version of the client cannot read how.
            CallNotFoundError, DispatcherUnavailableError: the server says so.
        """
        return await self._rpcs.run(self._status(), call_id=self.call_id, wait=ANSWER_WITHIN)

    async def cancel(self) -> None:
        """Ask the call to end; it does within two seconds of a worker's time, its open request after a heartbeat.

        Cancelling a call that has ended does nothing.

        Raises:
            CallConflictError: the id belongs to a workflow that is no call.
            CallNotFoundError, DispatcherUnavailableError: the server says so.
        """
        await self._rpcs.run(until_answered(self._cancel), call_id=self.call_id)

    async def _end(self) -> LLMResult:
        """How the call ends; an operator's reset ends a run by force, but not the call."""
        while True:
            try:
                return await self._polls.result(self._workflow, self._run)
            except WorkflowFailureError as failure:
                if not isinstance(failure.cause, TerminatedError):
                    raise
                if (await self._describe()).status == WorkflowExecutionStatus.TERMINATED:
                    raise

    def _run(self, run_id: str) -> WorkflowHandle[Any, LLMResult]:
        return self._client.get_workflow_handle(self.call_id, run_id=run_id, result_type=LLMResult)

    async def _cancel(self) -> None:
        await self._describe()  # never somebody else's workflow
        await self._workflow.cancel()

    async def _described(self) -> WorkflowExecutionDescription:
        """What Temporal knows of the call, asked for as long as it takes.

        Raises:
            CallConflictError: the id belongs to a workflow that is no call.
            CallNotFoundError, DispatcherUnavailableError: the server says so.
        """
        return await self._rpcs.run(until_answered(self._describe), call_id=self.call_id)

    async def _attempts(self) -> list[Attempt]:
        description = await self._describe()
        if description.status in _WITH_LEDGER:
            ended = await self._ended()
            return ended.attempts
        return await self._ledger(description.status in _LEDGER_IN_MEMORY)

    async def _status(self) -> CallStatus:
        description = await self._describe()
        if description.status == WorkflowExecutionStatus.RUNNING:
            status: CallStatus | None = await self._query(STATUS_QUERY, CallStatus)
            if status is not None:
                return status.model_copy(update={"call_id": self.call_id, "workers": True})
            return await self._status_without_answer(description)
        return await self._status_at_end(description)

    async def _describe(self) -> WorkflowExecutionDescription:
        """What Temporal knows of the call.

        Raises:
            CallConflictError: the id belongs to a workflow that is no call.
            RPCError: as the server gives it.
        """
        description = await self._workflow.describe()
        check_workflow_type(description, self.call_id)
        return description

    async def _ended(self) -> LLMResult | DurableLLMError:
        """How a call that has ended did: its result, or the error that it ends with."""
        try:
            with _readable("result", self.call_id):
                return await self._rpcs.run(self._workflow.result(), call_id=self.call_id)
        except WorkflowFailureError as failure:
            return call_error(failure, self.call_id, [])

    async def _query(self, name: str, kind: type[Any]) -> Any:
        """The worker's answer, or None where none comes in time."""
        try:
            async with asyncio.timeout(QUERY_S):
                return await self._workflow.query(name, result_type=kind, rpc_timeout=timedelta(seconds=QUERY_S))
        except (RPCError, TimeoutError):
            return None
        except DecryptionError:
            raise
        except Exception as error:  # a query that the worker's version fails to answer must not hide the history
            logger.debug("query %s of %s: %s", name, self.call_id, error)
            return None

    async def _status_without_answer(self, description: WorkflowExecutionDescription) -> CallStatus:
        """Of a running call whose worker does not answer: what the history tells."""
        entries = await self._ledger_or_nothing()
        workers = await self._watch.has_workers(description.task_queue)
        return CallStatus(
            call_id=self.call_id,
            outcome=CallOutcome.RUNNING,
            attempts=entries[-1].number if entries else 0,
            model=entries[-1].model if entries else None,
            activity=f"waiting: {await self._what_is_missing(description, workers)}",
            workers=workers,
        )

    async def _what_is_missing(self, description: WorkflowExecutionDescription, workers: bool | None) -> str:
        if workers is False:
            return f"no worker polls task queue {description.task_queue!r}"
        failed = await self._watch.task_failure(description)
        return f"workers fail its task: {failed}" if failed else "no worker answers"

    async def _status_at_end(self, description: WorkflowExecutionDescription) -> CallStatus:
        ended = await self._ended() if description.status in _WITH_LEDGER else None
        entries = ended.attempts if ended else await self._ledger_or_nothing()
        outcome = _OUTCOMES.get(type(ended)) or _OUTCOME_BY_STATUS.get(description.status or 0)
        return CallStatus(
            call_id=self.call_id,
            outcome=outcome,
            attempts=entries[-1].number if entries else 0,
            model=entries[-1].model if entries else None,
            activity=outcome.value if outcome else "ended by force",
        )

    async def _ledger(self, in_memory: bool) -> list[Attempt]:
        """The ledger as a worker has it in memory, where it has it whole and answers in time, else from the history."""
        if in_memory:
            entries: list[Attempt] | None = await self._query(ATTEMPTS_QUERY, list[Attempt])
            if entries is not None:
                return entries
        read = functools.partial(ledger_from_history, self._workflow, self._client.data_converter)
        with _readable("history", self.call_id):
            return await self._rpcs.run(until_answered(read), call_id=self.call_id)

    async def _ledger_or_nothing(self, in_memory: bool = False) -> list[Attempt]:
        """The ledger; [] where it cannot be read, since an ending is told with or without it."""
        with suppress(DurableLLMError):
            return await self._ledger(in_memory)
        return []

    def _parsed(self, result: LLMResult) -> LLMResult:
        """With the instance or JSON value in `parsed`; None where the text is none, which a paid answer survives."""
        if self._response_type is None and not result.structured:
            return result
        with suppress(ValueError):
            read = self._response_type.model_validate_json if self._response_type else json.loads
            return result.model_copy(update={"parsed": read(result.text or "")})
        return result


@contextmanager
def _readable(what: str, call_id: str) -> Iterator[None]:
    """Read what another version may have written.

    Raises:
        DurableLLMError: it is of another shape or of another encoding.
    """
    try:
        yield
    except (ValueError, LookupError) as error:
        text = f"the {what} of call {call_id!r} cannot be read ({type(error).__name__}); upgrade this client"
        raise DurableLLMError(text, call_id=call_id) from None


_OUTCOMES: Mapping[type, CallOutcome] = {
    LLMResult: CallOutcome.ANSWERED,
    AllModelsExhaustedError: CallOutcome.EXHAUSTED,
    RequestRejectedError: CallOutcome.REJECTED,
    UnsupportedRequestError: CallOutcome.REJECTED,
    BrokenValidatorError: CallOutcome.REJECTED,
    DeadlineExceededError: CallOutcome.DEADLINE,
}
_OUTCOME_BY_STATUS: Mapping[int, CallOutcome] = {
    WorkflowExecutionStatus.CANCELED: CallOutcome.CANCELLED,
    WorkflowExecutionStatus.TIMED_OUT: CallOutcome.DEADLINE,
}
