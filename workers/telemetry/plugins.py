"""Plugins of a worker with telemetry: Temporal's, which carries trace context, and ours, which makes spans.

Both are interceptors. The workflow and the activity know nothing about spans. Needs the extra `otel`.
"""

from collections.abc import Sequence

from opentelemetry import metrics
from temporalio.contrib.opentelemetry import OpenTelemetryPlugin
from temporalio.plugin import SimplePlugin
from temporalio.worker import (
    ActivityInboundInterceptor,
    Interceptor,
    Plugin,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

from durable_llm.contract.names import ATTEMPT_ENDED_FUNCTION

from .attempt_spans import AttemptSpans
from .call_spans import CallSpans, add_classified_event
from .instruments import Instruments
from .names import SCOPE


def plugins(*, capture_content: bool) -> Sequence[Plugin]:
    """The plugins. The providers must be installed."""
    instruments = Instruments(metrics.get_meter(SCOPE))
    ours = SimplePlugin("durable-llm telemetry", interceptors=[Telemetry(instruments, capture_content)])
    return [OpenTelemetryPlugin(), ours]


class Telemetry(Interceptor):
    """Makes the spans of calls and attempts of one worker."""

    def __init__(self, instruments: Instruments, capture_content: bool) -> None:
        self._instruments = instruments
        self._capture_content = capture_content

    def intercept_activity(
        self,
        next: ActivityInboundInterceptor,  # noqa: A002  # Temporal's own name for it
    ) -> ActivityInboundInterceptor:
        """See base class."""
        return AttemptSpans(next, self._instruments, self._capture_content)

    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: A002  # Temporal's own name for it
    ) -> type[WorkflowInboundInterceptor]:
        """See base class."""
        instruments_ = self._instruments

        class ThisWorkersCallSpans(CallSpans):
            instruments = instruments_

        input.unsafe_extern_functions[ATTEMPT_ENDED_FUNCTION] = lambda entry: add_classified_event(entry, instruments_)
        return ThisWorkersCallSpans
