"""The span of a call, made around the workflow, under the workflow's rules. Needs the extra `otel`.

It begins at the call's recorded start and draws its id from the call's own randomness, so that every worker that goes
on with the call makes the same span, and only the one that sees the call's end exports it. No command, no clock of its
own: a call moves between workers with telemetry and without. An attempt whose worker died has nobody to end its span,
so the call makes one in its place.
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
from .attempt_spans import category_of, chat_span, status_of
from .instruments import Instruments, telemetry_errors_logged
from .names import CALL_SPAN, CLASSIFIED_EVENT, SCOPE, Attribute


class WatchedCall(WorkflowInboundInterceptor):
    """Makes a call's span. Runs inside the workflow: no command, no clock of its own, no end during a replay."""

    instruments: Instruments

    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        """See base class."""
        super().init(_WatchedOrders(outbound))

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:  # noqa: A002  # Temporal's own name for it
        """See base class."""
        if workflow.info().workflow_type != WORKFLOW:
            return await super().execute_workflow(input)
        span: Span = trace.INVALID_SPAN
        with telemetry_errors_logged():
            span = _call_span()
            context.attach(trace.set_span_in_context(span))  # for ever: this task is the call's own and ends with it
        try:
            result = await super().execute_workflow(input)
        except (Exception, asyncio.CancelledError) as error:
            if is_cancelled_exception(error) or workflow.is_failure_exception(error):
                with telemetry_errors_logged():
                    self._end(span, *_of_ending(error))
            raise
        with telemetry_errors_logged():
            self._end(span, _of_result(result), None)
        return result

    def _end(self, span: Span, attributes: Attributes, status: Status | None) -> None:
        if workflow.unsafe.is_replaying_history_events():  # an eviction is one too
            return
        span.set_attributes(attributes)
        if status is not None:
            span.set_status(status)
        span.end()
        self.instruments.ended(attributes)


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


def _of_result(result: LLMResult) -> Attributes:
    known = {Attribute.RESPONSE_MODEL: result.model, Attribute.RESPONSE_ID: result.response_id}
    return {
        Attribute.OUTCOME: CallOutcome.ANSWERED.value,
        **_of_ledger(result),
        **{name: value for name, value in known.items() if value},
    }


def _of_ledger(ledger: Ledger) -> Attributes:
    """Its sums; an unknown cost is no cost of zero."""
    known = ledger.cost_complete or ledger.total_cost
    return {
        Attribute.ATTEMPTS: ledger.attempts_total,
        Attribute.COST_COMPLETE: ledger.cost_complete,
        **({Attribute.COST: ledger.total_cost} if known else {}),
    }


def _of_ending(error: BaseException) -> tuple[Attributes, Status | None]:
    """An ending without an answer. A call that somebody cancelled is no error."""
    if is_cancelled_exception(error):
        return {Attribute.OUTCOME: CallOutcome.CANCELLED.value}, None
    kind = (error.type if isinstance(error, ApplicationError) else None) or type(error).__name__
    details = error.details[0] if isinstance(error, ApplicationError) and error.details else None
    ended: Attributes = {
        Attribute.OUTCOME: (outcome_of_error(kind) or Outcome.FAILED).value,
        Attribute.ERROR_TYPE: kind,
    }
    if isinstance(details, CallFailure):
        ended |= _of_ledger(details)
    return ended, Status(StatusCode.ERROR, kind)


def judged(entry: Attempt, instruments: Instruments) -> None:
    """An attempt's judgement: an event of the call's span, made again in each replay, and counted once."""
    said = {
        Attribute.MODEL: entry.model,
        Attribute.OUTCOME: entry.outcome,
        Attribute.CATEGORY: entry.category,
        Attribute.DECISION: entry.decision,
        Attribute.RULE: entry.rule,
    }
    attributes: Attributes = {
        Attribute.NUMBER: entry.number,
        Attribute.TRY: entry.try_number,
        **{name: str(value) for name, value in said.items() if value is not None},
    }
    with telemetry_errors_logged():
        trace.get_current_span().add_event(CLASSIFIED_EVENT, attributes, timestamp=workflow.time_ns())
        if not workflow.unsafe.is_replaying_history_events():
            instruments.judged(attributes)


class _WatchedOrders(WorkflowOutboundInterceptor):
    """Makes the spans of attempts whose worker was lost, since nobody else can."""

    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:  # noqa: A002  # as above
        handle = super().start_activity(input)
        if input.activity == ATTEMPT_ACTIVITY:
            order, began_ns = input.args[0], workflow.time_ns()
            handle.add_done_callback(lambda ended: _if_lost(ended, order, began_ns))
        return handle


def _if_lost(ended: asyncio.Task[Any], order: AttemptOrder, began_ns: int) -> None:
    """Draws a span id in replays too, or two lost attempts of a call would get the same one."""
    error = None if ended.cancelled() else ended.exception()
    if not isinstance(error, ActivityError) or not isinstance(error.cause, TemporalTimeoutError):
        return
    with telemetry_errors_logged():
        facts = FailureFacts(local_fault=LocalFault.LOST)
        span = chat_span(attempt_attributes.of_order(order, workflow.info().workflow_id), began_ns)
        span.set_attributes(attempt_attributes.of_failure(facts, category_of(facts)))
        span.set_status(status_of(facts))
        span.end(workflow.time_ns())


def _ns(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000) * 1000
