"""A handle on one call: its result, ledger and status, how to cancel it, and the errors that it ends with."""

import asyncio
import functools
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
)
from temporalio.exceptions import ApplicationError, CancelledError, TerminatedError
from temporalio.exceptions import TimeoutError as TemporalTimeoutError
from temporalio.service import RPCError

from durable_llm.client.connection import Rpcs, check_workflow_type, until_answered
from durable_llm.client.control import Steering
from durable_llm.client.history import ledger_from_history
from durable_llm.client.long_polls import LongPolls
from durable_llm.client.stream import CallStream, Position, StreamedCall
from durable_llm.client.worker_watch import WorkerWatch
from durable_llm.contract import search_attributes
from durable_llm.contract.categories import UNFINISHED, CallOutcome
from durable_llm.contract.ledger import Attempt
from durable_llm.contract.names import ATTEMPTS_QUERY, STATUS_QUERY
from durable_llm.contract.result import CallFailure, CallStatus, LLMResult
from durable_llm.errors import (
    CALL_ENDINGS,
    AllModelsExhaustedError,
    BrokenValidatorError,
    CallCancelledError,
    CallTerminatedError,
    DeadlineExceededError,
    DecryptionError,
    DurableLLMError,
    RequestRejectedError,
    outcome_of_error,
)
from durable_llm.streams import Channel, Streams

logger = logging.getLogger("durable_llm")

QUERY_S: Final = 1.0
"""Seconds that a worker has to answer a query before the history is read instead."""

ANSWER_WITHIN: Final = timedelta(seconds=2)
"""Upper bound of `attempts` and `status`, with or without a worker."""

_WITH_LEDGER = (WorkflowExecutionStatus.COMPLETED, WorkflowExecutionStatus.FAILED)
_LEDGER_IN_MEMORY = (WorkflowExecutionStatus.RUNNING, WorkflowExecutionStatus.CANCELED)
_OUTCOME_BY_STATUS: Mapping[int, CallOutcome] = {
    WorkflowExecutionStatus.CANCELED: CallOutcome.CANCELLED,
    WorkflowExecutionStatus.TIMED_OUT: CallOutcome.DEADLINE,
}
"""Outcomes of calls that Temporal ended: they have no error of the workflow's own."""


OnEnd = Callable[[str, LLMResult | DurableLLMError], None]
"""Is told a call's id, and its result or the error that it ended with."""


class CallHandle(Steering):
    """One call, running or ended. A handle is cheap: an id and its dispatcher's connection.

    Attributes:
        call_id: The call's id, with which any process can attach to it.
        attached: Whether the call was there before this handle. A submission that got no answer and was sent again
            finds its own call, and counts as attached.
    """

    def __init__(
        self,
        client: Client,
        rpcs: Rpcs,
        call_id: str,
        *,
        polls: LongPolls,
        watch: WorkerWatch,
        streams: Streams,
        response_type: type[BaseModel] | None = None,
        on_end: Sequence[OnEnd] = (),
    ) -> None:
        self.call_id = call_id
        self.attached = True
        self._client = client
        self._rpcs = rpcs
        self._response_type = response_type
        self._polls = polls
        self._watch = watch
        self._streams = streams
        self._on_end = on_end
        self._last_channel: tuple[str, Channel] | None = None
        self._workflow: WorkflowHandle[Any, LLMResult] = client.get_workflow_handle(call_id, result_type=LLMResult)

    def __repr__(self) -> str:
        return f"CallHandle({self.call_id!r})"

    async def result(self, wait: timedelta | None = None) -> LLMResult:
        """The call's answer, awaited without limit or for at most `wait`.

        Raises:
            AllModelsExhaustedError, RequestRejectedError, DeadlineExceededError, CallCancelledError,
            CallTerminatedError, UnsupportedRequestError, BrokenValidatorError: how the call ended; with the ledger.
            DurableLLMError: the call ended, and this version of the client cannot read its result.
            DecryptionError: the call ended, and this process lacks the key for its result.
            ResultNotReadyError: `wait` passed; the call continues.
            CallNotFoundError, DispatcherUnavailableError: the server refused.
        """
        watch = asyncio.create_task(self._watch.warn(self.call_id, self._described))
        try:
            with _readable("result", self.call_id):
                result = await self._rpcs.run(until_answered(self._end), call_id=self.call_id, wait=wait, result=True)
            if not result.choices:  # only another kind of workflow has such a result
                await self._described()
        except WorkflowFailureError as failure:
            attempts: list[Attempt] = []
            if not isinstance(failure.cause, ApplicationError):  # that one carries its ledger
                attempts = await self._ledger_or_nothing(in_memory=isinstance(failure.cause, CancelledError))
            error = call_error(failure.cause, self.call_id, attempts)
            self._tell(error)
            raise error from failure
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        parsed = with_parsed(result, self._response_type)
        self._tell(parsed)
        return parsed

    def _tell(self, end: LLMResult | DurableLLMError) -> None:
        """Tell those who want to know, once. What they raise is logged: the answer was paid for."""
        told, self._on_end = self._on_end, ()
        for tell in told:
            try:
                tell(self.call_id, end)
            except Exception:
                logger.exception("on_end of call %r has failed", self.call_id)

    def stream(self, after: Position | None = None) -> CallStream:
        """The events of the call from now on. Text is published only if the call was submitted with `stream`.

        Args:
            after: The position of the last TextDelta that this reader has, to go on behind it after a crash.
        """

        async def open_call() -> StreamedCall:
            return self.streamed

        return CallStream(open_call, after)

    @property
    def streamed(self) -> StreamedCall:
        """What a stream needs of this call."""
        return StreamedCall(self.result, self.attempts, self._channel)

    async def _channel(self) -> Channel:
        """The channel of the call's latest run; the same one as before if that is the same."""
        run_id = (await self._described()).run_id
        if self._last_channel is None or self._last_channel[0] != run_id:
            self._last_channel = run_id, self._streams.channel(self._client, self.call_id, run_id)
        return self._last_channel[1]

    async def attempts(self) -> list[Attempt]:
        """The ledger so far, within two seconds, with or without a worker.

        Raises:
            DurableLLMError: this version of the client cannot read it.
            CallNotFoundError, DispatcherUnavailableError: the server refused.
        """
        return await self._rpcs.run(self._attempts(), call_id=self.call_id, wait=ANSWER_WITHIN)

    async def status(self) -> CallStatus:
        """What the call is doing, within two seconds, with or without a worker.

        Raises:
            DurableLLMError: it ended, and this version of the client cannot read its end.
            CallNotFoundError, DispatcherUnavailableError: the server refused.
        """
        return await self._rpcs.run(self._status(), call_id=self.call_id, wait=ANSWER_WITHIN)

    async def cancel(self) -> None:
        """Ask the call to end. A worker ends it within two seconds, and its open request at the next heartbeat.

        Cancelling a call that has ended does nothing.

        Raises:
            CallConflictError: the id belongs to another kind of workflow.
            CallNotFoundError, DispatcherUnavailableError: the server refused.
        """
        await self._rpcs.run(until_answered(self._cancel), call_id=self.call_id)

    async def delete(self) -> None:
        """Delete the call with its prompt, answer and ledger. A running one ends without an answer.

        A prompt in the store stays there until the store is swept.

        Raises:
            CallConflictError: the id belongs to another kind of workflow.
            CallNotFoundError, DispatcherUnavailableError: the server refused.
        """
        await self._rpcs.run(until_answered(self._delete), call_id=self.call_id)

    async def _delete(self) -> None:
        await self._describe()  # never another kind of workflow
        await self._client.workflow_service.delete_workflow_execution(
            DeleteWorkflowExecutionRequest(
                namespace=self._client.namespace, workflow_execution=WorkflowExecution(workflow_id=self.call_id)
            )
        )

    async def _end(self) -> LLMResult:
        """The result of the call. An operator's reset terminates a run but not the call, so the new run is awaited."""
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
        await self._describe()  # never another kind of workflow
        await self._workflow.cancel()

    async def _described(self) -> WorkflowExecutionDescription:
        """What Temporal knows about the call, asked until the server answers.

        Raises:
            CallConflictError: the id belongs to another kind of workflow.
            CallNotFoundError, DispatcherUnavailableError: the server refused.
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
        """What Temporal knows about the call.

        Raises:
            CallConflictError: the id belongs to another kind of workflow.
            RPCError: from the server, unchanged.
        """
        description = await self._workflow.describe()
        check_workflow_type(description)
        return description

    async def _ended(self) -> LLMResult | DurableLLMError:
        """The result of a call that has ended, or the error that it ended with."""
        try:
            with _readable("result", self.call_id):
                return await self._rpcs.run(self._workflow.result(), call_id=self.call_id)
        except WorkflowFailureError as failure:
            return call_error(failure.cause, self.call_id, [])

    async def _query(self, name: str, kind: type[Any]) -> Any:
        """The worker's answer; None if it does not come in time."""
        try:
            async with asyncio.timeout(QUERY_S):
                return await self._workflow.query(name, result_type=kind, rpc_timeout=timedelta(seconds=QUERY_S))
        except (RPCError, TimeoutError):
            return None
        except DecryptionError:
            raise
        except Exception as error:  # if the worker's version fails to answer, the history still can
            logger.debug("query %s of %s: %s", name, self.call_id, error)
            return None

    async def _status_without_answer(self, description: WorkflowExecutionDescription) -> CallStatus:
        """The status of a running call whose worker does not answer, from the history."""
        entries = await self._ledger_or_nothing()
        workers = await self._watch.has_workers(description.task_queue)
        if workers is False:
            missing = f"no worker polls task queue {description.task_queue!r}"
        else:
            failed = await self._watch.task_failure(description)
            missing = f"workers fail its task: {failed}" if failed else "no worker answers"
        recorded = description.typed_search_attributes.get(search_attributes.OUTCOME)
        outcome = CallOutcome(recorded) if recorded in UNFINISHED else CallOutcome.RUNNING
        status = self._status_of(entries, outcome, f"waiting: {missing}")
        return status.model_copy(update={"workers": workers})

    async def _status_at_end(self, description: WorkflowExecutionDescription) -> CallStatus:
        ended = await self._ended() if description.status in _WITH_LEDGER else None
        if isinstance(ended, LLMResult):
            outcome: CallOutcome | None = CallOutcome.ANSWERED
        else:
            outcome = outcome_of_error(type(ended).__name__) or _OUTCOME_BY_STATUS.get(description.status or 0)
        entries = ended.attempts if ended else await self._ledger_or_nothing()
        status = self._status_of(entries, outcome, outcome.value if outcome else "terminated")
        return status.model_copy(update={"interventions": ended.interventions if ended else []})

    def _status_of(self, entries: list[Attempt], outcome: CallOutcome | None, activity: str) -> CallStatus:
        last = entries[-1] if entries else None
        return CallStatus(
            call_id=self.call_id, outcome=outcome, attempts=last.number if last else 0,
            model=last.model if last else None, activity=activity,
        )  # fmt: skip

    async def _ledger(self, in_memory: bool) -> list[Attempt]:
        """The ledger from a worker's memory, if it is there and the worker answers in time, else from the history."""
        if in_memory:
            entries: list[Attempt] | None = await self._query(ATTEMPTS_QUERY, list[Attempt])
            if entries is not None:
                return entries
        read = functools.partial(ledger_from_history, self._workflow, self._client.data_converter)
        with _readable("history", self.call_id):
            return await self._rpcs.run(until_answered(read), call_id=self.call_id)

    async def _ledger_or_nothing(self, in_memory: bool = False) -> list[Attempt]:
        """The ledger; [] if it cannot be read, so that the call's end is reported in any case."""
        with suppress(DurableLLMError):
            return await self._ledger(in_memory)
        return []


def with_parsed(result: LLMResult, response_type: type[BaseModel] | None) -> LLMResult:
    """With the instance or JSON value in `parsed`; None if the text is neither: the paid answer counts more."""
    if response_type is None and not result.structured:
        return result
    with suppress(ValueError):
        read = response_type.model_validate_json if response_type else json.loads
        return result.model_copy(update={"parsed": read(result.text or "")})
    return result


@contextmanager
def _readable(what: str, call_id: str) -> Iterator[None]:
    """Read what another version may have written.

    Raises:
        DurableLLMError: it has another shape or encoding.
    """
    try:
        yield
    except (ValueError, LookupError) as error:
        text = f"the {what} of call {call_id!r} cannot be read ({type(error).__name__}); upgrade this client"
        raise DurableLLMError(text, call_id=call_id) from None


def call_error(cause: BaseException | None, call_id: str, attempts: list[Attempt]) -> DurableLLMError:
    """The typed error for a call that ended without an answer.

    Args:
        cause: The workflow's failure.
        call_id: The call's id.
        attempts: The ledger for endings that carry none.
    """
    known: dict[str, Any] = {"call_id": call_id, "attempts": attempts}
    match cause:
        case ApplicationError():
            return _workflows_error(cause, call_id, attempts)
        case CancelledError():
            return CallCancelledError(f"call {call_id!r} was cancelled", **known)
        case TemporalTimeoutError():
            text = f"call {call_id!r} passed its deadline while no worker was there to end it"
            return DeadlineExceededError(text, **known)
        case TerminatedError():
            reason = f": {cause.message}" if cause.message else ""
            return CallTerminatedError(f"call {call_id!r} was terminated{reason}", **known)
    return DurableLLMError(f"call {call_id!r} failed: {cause}", **known)


def _workflows_error(cause: ApplicationError, call_id: str, attempts: list[Attempt]) -> DurableLLMError:
    """The error that the workflow itself ended the call with."""
    kind = CALL_ENDINGS.get(cause.type or "", DurableLLMError)
    try:
        details = CallFailure.model_validate(cause.details[0]) if cause.details else CallFailure()
    except ValidationError:
        details = CallFailure()  # another version's details: the error's type and text are still valid
    known: dict[str, Any] = {
        "call_id": call_id, "attempts": details.attempts or attempts, "interventions": details.interventions,
    }  # fmt: skip
    if issubclass(kind, AllModelsExhaustedError | RequestRejectedError):
        known["last_error"] = details.last_error
    if issubclass(kind, BrokenValidatorError) and details.answer is not None:
        index = details.attempts[-1].spec_index if details.attempts else 0
        answer = {**details.model_dump(), **details.answer.model_dump(), "spec_index": index}
        known["answer"] = LLMResult.model_validate(answer)
    return kind(f"call {call_id!r}: {cause.message}", **known)
