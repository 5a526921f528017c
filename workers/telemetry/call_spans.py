"""The span of a call, made around the workflow and deterministic like it. Needs the extra `otel`.

The span starts at the call's recorded start and takes its id from the workflow's random generator. So every worker that
continues the call makes the same span, and the worker that sees the end exports it. It adds no command and reads no
clock: a call may move between workers with and without telemetry. A dead worker cannot end its attempt's span, so the
call makes that span.
"""

import asyncio
from datetime import datetime
from typing import Any

from opentelemetry import context, trace
from opentelemetry.trace import Span, Status, StatusCode
from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception
from temporalio.exceptions import TimeoutError as TemporalTimeoutError
from temporalio.worker import (
    ExecuteWorkflowInput,
    StartActivityInput,
    WorkflowInboundInterceptor,
    WorkflowOutboundInterceptor,
)

from durable_llm.contract import search_attributes
from durable_llm.contract.categories import CallOutcome, Outcome
from durable_llm.contract.facts import FailureFacts, LocalFault
from durable_llm.contract.ledger import Attempt, Ledger
from durable_llm.contract.names import ATTEMPT_ACTIVITY, WORKFLOW
from durable_llm.contract.request import AttemptOrder
from durable_llm.contract.result import CallFailure, LLMResult
from durable_llm.errors import outcome_of_error

from . import attempt_attributes
from .attempt_attributes import Attributes
from .attempt_spans import category_of, request_span, status_of
from .instruments import Instruments, telemetry_errors_logged
from .names import CALL_SPAN, CLASSIFIED_EVENT, SCOPE, Attribute


class CallSpans(WorkflowInboundInterceptor):
    """Makes a call's span. Runs inside the workflow. It ends no span during a replay."""

    instruments: Instruments

    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        """See base class."""
        super().init(_LostAttemptSpans(outbound))

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:  # noqa: A002  # Temporal's own name for it
        """See base class."""
        if workflow.info().workflow_type != WORKFLOW:
            return await super().execute_workflow(input)
        span: Span = trace.INVALID_SPAN
        with telemetry_errors_logged():
            span = _call_span()
            context.attach(trace.set_span_in_context(span))  # never detached: the task ends with the call
        try:
            result = await super().execute_workflow(input)
        except (Exception, asyncio.CancelledError) as error:
            if is_cancelled_exception(error) or workflow.is_failure_exception(error):
                with telemetry_errors_logged():
                    self._end(span, *_ending_attributes(error))
            raise
        except workflow.ContinueAsNewError:
            with telemetry_errors_logged():
                self._end_run(span)
            raise
        with telemetry_errors_logged():
            self._end(span, _result_attributes(result), None)
        return result

    def _end_run(self, span: Span) -> None:
        """End the span of a run that another one follows; the call is counted at its end."""
        if not workflow.unsafe.is_replaying_history_events():
            span.set_attribute(Attribute.OUTCOME, CallOutcome.RUNNING.value)
            span.end()

    def _end(self, span: Span, attributes: Attributes, status: Status | None) -> None:
        if workflow.unsafe.is_replaying_history_events():  # also during an eviction
            return
        span.set_attributes(attributes)
        if status is not None:
            span.set_status(status)
        span.end()
        self.instruments.count_call(attributes)


def _call_span() -> Span:
    info = workflow.info()
    session = info.typed_search_attributes.get(search_attributes.SESSION)
    attributes: Attributes = {
        Attribute.CALL_ID: info.workflow_id,
        **({Attribute.CONVERSATION: session} if session else {}),
    }
    return trace.get_tracer(SCOPE).start_span(
        CALL_SPAN, attributes=attributes, start_time=_ns(info.workflow_start_time)
    )


def _result_attributes(result: LLMResult) -> Attributes:
    known = {Attribute.RESPONSE_MODEL: result.model, Attribute.RESPONSE_ID: result.response_id}
    return {
        Attribute.OUTCOME: CallOutcome.ANSWERED.value,
        **_ledger_attributes(result),
        **{name: value for name, value in known.items() if value},
    }


def _ledger_attributes(ledger: Ledger) -> Attributes:
    """The ledger's totals. An unknown cost is left out."""
    known = ledger.cost_complete or ledger.total_cost
    return {
        Attribute.ATTEMPTS: ledger.attempts_total,
        Attribute.COST_COMPLETE: ledger.cost_complete,
        **({Attribute.COST: ledger.total_cost} if known else {}),
    }


def _ending_attributes(error: BaseException) -> tuple[Attributes, Status | None]:
    """Attributes and status of an ending without an answer. A cancelled call is not an error."""
    if is_cancelled_exception(error):
        return {Attribute.OUTCOME: CallOutcome.CANCELLED.value}, None
    kind = (error.type if isinstance(error, ApplicationError) else None) or type(error).__name__
    details = error.details[0] if isinstance(error, ApplicationError) and error.details else None
    ended: Attributes = {
        Attribute.OUTCOME: (outcome_of_error(kind) or Outcome.FAILED).value,
        Attribute.ERROR_TYPE: kind,
    }
    if isinstance(details, CallFailure):
        ended |= _ledger_attributes(details)
    return ended, Status(StatusCode.ERROR, kind)


def add_classified_event(entry: Attempt, instruments: Instruments) -> None:
    """Add a classified attempt to the call's span, in each replay too, and count it once."""
    texts = {
        Attribute.MODEL: entry.model,
        Attribute.OUTCOME: entry.outcome,
        Attribute.CATEGORY: entry.category,
        Attribute.DECISION: entry.decision,
        Attribute.RULE: entry.rule,
    }
    attributes: Attributes = {
        Attribute.NUMBER: entry.number,
        Attribute.TRY: entry.try_number,
        **{name: str(value) for name, value in texts.items() if value is not None},
    }
    with telemetry_errors_logged():
        trace.get_current_span().add_event(CLASSIFIED_EVENT, attributes, timestamp=workflow.time_ns())
        if not workflow.unsafe.is_replaying_history_events():
            instruments.count_attempt(attributes)


class _LostAttemptSpans(WorkflowOutboundInterceptor):
    """Makes the spans of attempts whose worker was lost."""

    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:  # noqa: A002  # as above
        handle = super().start_activity(input)
        if input.activity == ATTEMPT_ACTIVITY:
            order, began_ns = input.args[0], workflow.time_ns()
            handle.add_done_callback(lambda ended: _end_lost(ended, order, began_ns))
        return handle


def _end_lost(ended: asyncio.Task[Any], order: AttemptOrder, began_ns: int) -> None:
    """Make the span of a lost attempt, in replays too: otherwise two of them would get the same span id."""
    error = None if ended.cancelled() else ended.exception()
    if not isinstance(error, ActivityError) or not isinstance(error.cause, TemporalTimeoutError):
        return
    with telemetry_errors_logged():
        facts = FailureFacts(local_fault=LocalFault.LOST)
        span = request_span(attempt_attributes.order_attributes(order, workflow.info().workflow_id), began_ns)
        span.set_attributes(attempt_attributes.failure_attributes(facts, category_of(facts)))
        span.set_status(status_of(facts))
        span.end(workflow.time_ns())


def _ns(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000) * 1000
