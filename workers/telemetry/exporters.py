"""OpenTelemetry's providers and OTLP exporters of this process. Needs the extra `otel`.

The tracer provider is Temporal's. It ends no span during a replay, and inside a workflow it takes span ids from the
workflow's random generator. So a call has the same spans on every worker.
"""

import functools
import os
from collections.abc import Callable, Sequence

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from temporalio.contrib.opentelemetry import ReplaySafeTracerProvider, create_tracer_provider

from durable_llm import __version__


class ForeignProviderError(Exception):
    """The process has another tracer provider, which would export a call's spans once per replay."""


@functools.cache
def install(signals: frozenset[str], *, service_name: str) -> Sequence[Callable[[], object]]:
    """Make this process's providers, once for all its workers.

    Returns:
        Functions that send everything that is waiting.

    Raises:
        ForeignProviderError: the process has a tracer provider already.
    """
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        raise ForeignProviderError
    resource = _resource(service_name)
    tracer_provider = _tracer_provider(resource, exports="traces" in signals)
    readers: list[MetricReader] = [PeriodicExportingMetricReader(OTLPMetricExporter())] if "metrics" in signals else []
    readers += [PrometheusMetricReader()] if "prometheus" in signals else []
    meter_provider = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
    trace.set_tracer_provider(tracer_provider)
    metrics.set_meter_provider(meter_provider)
    return [tracer_provider.force_flush, meter_provider.force_flush]


def _tracer_provider(resource: Resource, *, exports: bool) -> ReplaySafeTracerProvider:
    if not exports:
        return create_tracer_provider(sampler=ALWAYS_OFF, resource=resource, shutdown_on_exit=False)
    provider = create_tracer_provider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _resource(service_name: str) -> Resource:
    """The process as backends see it: our name and version, unless OTEL_* variables say otherwise."""
    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return Resource.create({"service.version": __version__, **({} if named else {"service.name": service_name})})
