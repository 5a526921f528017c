"""The worker's OpenTelemetry, switched on by the standard OTEL_* variables.

opentelemetry is imported only when a variable asks for it: a worker without telemetry does not need the packages. The
SDK sends spans and counters in batches, and our programs end with os._exit, so `exporting` sends the rest at its end.
"""

import importlib.util
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Literal

from temporalio.worker import Plugin

logger = logging.getLogger("durable_llm.telemetry")

Signal = Literal["traces", "metrics", "prometheus"]
SIGNALS: Final[tuple[Signal, ...]] = ("traces", "metrics")
PORT_VARIABLE: Final = "DURABLE_LLM_HTTP_PORT"
"""A worker with this port serves its metrics there, for Prometheus."""

FLUSH_S: Final = 5.0
"""Seconds that a stopping worker takes to send its last spans and counters. The collector may be down."""

CONTENT_VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
SERVICE_NAME: Final = "durable-llm-worker"


def wanted(environment: Mapping[str, str]) -> set[Signal]:
    """The signals that the environment switches on."""
    if _is_true(environment.get("OTEL_SDK_DISABLED")):
        return set()
    asked: set[Signal] = {signal for signal in SIGNALS if _wanted(signal, environment)}
    return asked | {"prometheus"} if environment.get(PORT_VARIABLE) else asked


def _wanted(signal: Signal, environment: Mapping[str, str]) -> bool:
    exporter = environment.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip().lower()
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    if exporter not in ("", "otlp", "none"):
        logger.warning("OTEL_%s_EXPORTER: only 'otlp' and 'none' are supported; nothing is exported", signal.upper())
    asked = exporter == "otlp" or (not exporter and any(environment.get(name) for name in endpoints))
    return asked and _speaks_http(signal, environment)


def _speaks_http(signal: Signal, environment: Mapping[str, str]) -> bool:
    """Whether the protocol is supported. The signal's own variable wins. An empty variable counts as unset."""
    names = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    variable = next((name for name in names if environment.get(name)), None)
    if variable is None or environment[variable] == "http/protobuf":
        return True
    logger.warning("%s: only 'http/protobuf' is supported; no %s are exported", variable, signal)
    return False


def _supported() -> bool:
    """Whether the packages are installed. Logs what is missing."""
    needed = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http", "opentelemetry.exporter.prometheus")
    if not all(map(_installed, needed)):
        logger.warning("OTEL_* or %s switch telemetry on; it needs pip install 'durable-llm[otel]'", PORT_VARIABLE)
        return False
    return True


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False


def _is_true(value: str | None) -> bool:
    return (value or "").strip().lower() == "true"


@contextmanager
def exporting() -> Iterator[Sequence[Plugin]]:
    """Plugins for the worker that runs inside the block. () without telemetry."""
    signals = wanted(os.environ)
    if not signals or not _supported():
        yield ()
        return
    from . import exporters, plugins  # noqa: PLC0415  # need the optional packages

    try:
        flushes = exporters.install(frozenset(signals), service_name=SERVICE_NAME)
    except exporters.ForeignProviderError:
        logger.warning("a tracer provider was set before the worker's own (opentelemetry-instrument?); no telemetry")
        yield ()
        return
    try:
        yield plugins.plugins(capture_content=_is_true(os.environ.get(CONTENT_VARIABLE)))
    finally:
        _flush(flushes)


def unfinished_gauge() -> Callable[[str, int], None] | None:
    """Sets how many calls have an outcome that is no end. None: this worker serves no metrics of its own."""
    if "prometheus" not in wanted(os.environ) or not _supported():
        return None
    from . import instruments  # noqa: PLC0415  # needs the optional packages

    return instruments.unfinished_gauge()


def _flush(flushes: Sequence[Callable[[], object]]) -> None:
    """Send what is waiting, for at most FLUSH_S: the exporters' own limits are longer or not kept."""
    threads = [threading.Thread(target=flush, daemon=True) for flush in flushes]
    for thread in threads:
        thread.start()
    give_up = time.monotonic() + FLUSH_S
    for thread in threads:
        thread.join(max(0.0, give_up - time.monotonic()))
