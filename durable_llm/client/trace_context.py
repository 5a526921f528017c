"""Trace context from the caller's active span to the call.

A traced agent job wants its calls in the same trace. This module makes no span and no provider: the context of the span
that is active at `submit` travels in the call's headers, in the form that Temporal's OpenTelemetry plugin reads.
Without opentelemetry, or without an active span, nothing happens and nothing is imported.
"""

import sys
from typing import Any, Final

from temporalio.client import Interceptor, OutboundInterceptor, StartWorkflowInput, WorkflowHandle
from temporalio.converter import PayloadConverter

TRACE_HEADER: Final = "_tracer-data"
"""The header of Temporal's OpenTelemetry interceptors; with another name every trace breaks."""


class TraceContext(Interceptor):
    """Passes the active span's context on to the calls that a client starts; for `Client.connect(interceptors=...)`."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:  # noqa: A002  # Temporal's own name
        """See base class."""
        return _Outbound(next)


class _Outbound(OutboundInterceptor):
    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:  # noqa: A002  # Temporal's own name
        carrier = active_trace()
        if carrier and TRACE_HEADER not in input.headers:
            [payload] = PayloadConverter.default.to_payloads([carrier])
            input.headers = {**input.headers, TRACE_HEADER: payload}
        return await super().start_workflow(input)


def active_trace() -> dict[str, str]:
    """The active span's context as W3C headers; {} without one. Baggage is left out: it may hold anything.

    A span can be active only if somebody has imported opentelemetry, so other programs pay nothing.
    """
    if "opentelemetry.trace" not in sys.modules:
        return {}
    from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415  # optional, and imported by now
        TraceContextTextMapPropagator,
    )

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier
