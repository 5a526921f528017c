"""The span of each attempt, made around the activity. Needs the extra `otel`.

An attempt's span ends when its response ends. An attempt may hold its answer until the Temporal server is back, and
that must not look like a slow provider. Provider, host and a large prompt come from the attempt's observation.
"""

import asyncio
import time
from collections.abc import Awaitable
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from durable_llm.client.trace_context import active_trace
from durable_llm.contract.categories import Category, Outcome
from durable_llm.contract.facts import FailureFacts
from durable_llm.contract.names import ATTEMPT_ACTIVITY, ATTEMPT_FAILED
from durable_llm.contract.request import AttemptOrder, Prompt
from durable_llm.contract.result import Answer

from ..rooms.activities import Observation, Scrubber, observing
from ..rooms.workflows import CURRENT, VERSIONS
from . import attempt_attributes, message_content
from .attempt_attributes import Attributes
from .instruments import Instruments, telemetry_errors_logged
from .names import SCOPE, Attribute

CAPTURED_BYTES: Final = 8000
"""Bytes of each text that are exported, where texts are exported at all."""


class AttemptSpans(ActivityInboundInterceptor):
    """Makes the span of each attempt."""

    def __init__(self, inner: ActivityInboundInterceptor, instruments: Instruments, capture_content: bool) -> None:
        super().__init__(inner)
        self._instruments = instruments
        self._capture_content = capture_content

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002  # Temporal's own name for it
        """See base class."""
        if activity.info().activity_type != ATTEMPT_ACTIVITY:
            return await super().execute_activity(input)
        attempt = super().execute_activity(input)
        with observing() as seen:
            span = self._started(input, seen)
            if span is None:
                return await attempt
            with trace.use_span(span.span, record_exception=False, set_status_on_exception=False):
                seen.trace = active_trace()
                return await span.over(attempt)

    def _started(self, input: ExecuteActivityInput, seen: Observation) -> "_AttemptSpan | None":  # noqa: A002  # as above
        with telemetry_errors_logged():
            order, prompt = input.args
            seen.prompt = prompt if isinstance(prompt, Prompt) else None  # the attempt adds a large one
            return _AttemptSpan(order, seen, self._instruments, self._capture_content)
        return None


class _AttemptSpan:
    """One attempt's span."""

    def __init__(self, order: AttemptOrder, seen: Observation, instruments: Instruments, capture: bool) -> None:
        self._seen = seen
        self._instruments = instruments
        self._capture = capture
        self._began_ns = time.time_ns()
        self._attributes = attempt_attributes.order_attributes(order, activity.info().workflow_id or "")
        self.span = request_span(self._attributes, self._began_ns)

    async def over(self, attempt: Awaitable[Any]) -> Any:
        """Await the attempt and end the span."""
        try:
            answer = await attempt
        except asyncio.CancelledError:
            with telemetry_errors_logged():
                self._end(_cancellation_attributes(), None)
            raise
        except Exception as error:
            with telemetry_errors_logged():
                facts = _failure_facts(error)
                self._end(
                    attempt_attributes.failure_attributes(facts, category_of(facts)), facts.duration_s, status_of(facts)
                )
            raise
        with telemetry_errors_logged():
            self._end(attempt_attributes.answer_attributes(answer), answer.duration_s, answer=answer)
        return answer

    def _end(
        self, attributes: Attributes, duration_s: float | None, status: Status | None = None,
        answer: Answer | None = None,
    ) -> None:  # fmt: skip
        """End the span at the time when the response ended."""
        self._attributes |= {**self._observed(), **attributes}
        self.span.set_attributes(self._attributes)
        if self._capture and self.span.is_recording():
            with telemetry_errors_logged():  # without these attributes the span is still exported
                self.span.set_attributes(_content(self._seen, answer))
        if status is not None:
            self.span.set_status(status)
        self._instruments.record_attempt(self._attributes, duration_s)
        self.span.end(self._began_ns + round(duration_s * 1e9) if duration_s is not None else None)

    def _observed(self) -> Attributes:
        """Provider and host as the attempt observed them."""
        provider, host = self._seen.provider, self._seen.host
        named: Attributes = {Attribute.PROVIDER: attempt_attributes.provider_name(provider)} if provider else {}
        placed = Attribute.SERVER_ADDRESS in self._attributes or host is None
        return {**named, **({} if placed else attempt_attributes.address_attributes(host or ""))}


def request_span(attributes: Attributes, start_ns: int) -> Span:
    """The span of an attempt that began at `start_ns`."""
    name = f"{attributes[Attribute.OPERATION]} {attributes[Attribute.REQUEST_MODEL]}"
    return trace.get_tracer(SCOPE).start_span(name, kind=SpanKind.CLIENT, attributes=attributes, start_time=start_ns)


def _cancellation_attributes() -> Attributes:
    """A cancelled attempt is not an error, except when its stopping worker gave it up."""
    details = activity.cancellation_details()
    if details is not None and details.worker_shutdown:
        return {Attribute.OUTCOME: Outcome.UNKNOWN.value, Attribute.ERROR_TYPE: Category.WORKER_LOST.value}
    return {Attribute.OUTCOME: Outcome.CANCELLED.value}


def _failure_facts(error: Exception) -> FailureFacts:
    if isinstance(error, ApplicationError) and error.type == ATTEMPT_FAILED and error.details:
        return FailureFacts.model_validate(error.details[0])
    return FailureFacts(exception=type(error).__name__)


def category_of(facts: FailureFacts) -> str:
    """The failure's category by the current policy. Presets differ in decisions, not in categories."""
    return VERSIONS[CURRENT].classify(facts).category


def status_of(facts: FailureFacts) -> Status:
    """An error with the ledger's headline, without the provider's text."""
    return Status(StatusCode.ERROR, facts.model_copy(update={"text": ""}).headline())


def _content(seen: Observation, answer: Answer | None) -> Attributes:
    if seen.secrets is None or (seen.prompt is not None and seen.prompt.texts is not None):
        return {}  # the conventions have messages for chat only
    scrubber = Scrubber(seen.secrets())

    def clean(text: str) -> str:
        return scrubber.clean(text, CAPTURED_BYTES)

    content: Attributes = {}
    if seen.prompt is not None:
        content[Attribute.INPUT_MESSAGES] = message_content.input_messages(seen.prompt, clean)
        if seen.prompt.tools:
            content[Attribute.TOOL_DEFINITIONS] = message_content.tool_definitions(seen.prompt, clean)
    if answer is not None:
        content[Attribute.OUTPUT_MESSAGES] = message_content.output_messages(answer.choices, clean)
    return content
