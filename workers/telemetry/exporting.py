"""The worker's OpenTelemetry: switched on by the standard OTEL_* variables, absent without them.

Nothing of opentelemetry is imported until a variable asks for it, so that a worker without telemetry neither needs the
packages nor pays for them. Spans and counters wait in memory to be sent in batches, and our programs leave by
os._exit: what is left is sent when the block of `exporting` ends.
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

Signal = Literal["traces", "metrics"]
SIGNALS: Final[tuple[Signal, ...]] = ("traces", "metrics")

FLUSH_S: Final = 5.0
"""Seconds that a leaving worker gives its last spans and counters; a collector that is away must not keep it."""

CONTENT_VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
SERVICE_NAME: Final = "durable-llm-worker"


def wanted(environment: Mapping[str, str]) -> set[Signal]:
    """The signals that the environment asks for."""
    if _is_true(environment.get("OTEL_SDK_DISABLED")):
        return set()
    return {signal for signal in SIGNALS if _wanted(signal, environment)}


def _wanted(signal: Signal, environment: Mapping[str, str]) -> bool:
    exporter = environment.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip().lower()
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    if exporter not in ("", "otlp", "none"):
        logger.warning("OTEL_%s_EXPORTER: only 'otlp' and 'none' are supported; nothing is exported", signal.upper())
    asked = exporter == "otlp" or (not exporter and any(environment.get(name) for name in endpoints))
    return asked and _speaks_http(signal, environment)


def _speaks_http(signal: Signal, environment: Mapping[str, str]) -> bool:
    """Whether the protocol is the one that is supported; the signal's own variable wins, and an empty one is unset."""
    names = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    said = next((name for name in names if environment.get(name)), None)
    if said is None or environment[said] == "http/protobuf":
        return True
    logger.warning("%s: only 'http/protobuf' is supported; no %s are exported", said, signal)
    return False


def _supported() -> bool:
    """Whether what is asked for can be done here; says what is missing."""
    if not _installed("opentelemetry.sdk") or not _installed("opentelemetry.exporter.otlp.proto.http"):
        logger.warning("OTEL_* variables ask for telemetry; it takes pip install 'durable-llm[otel]'")
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
    """Plugins for the worker that runs inside the block; () where nothing is asked for."""
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


def _flush(flushes: Sequence[Callable[[], object]]) -> None:
    """Send what is left, for FLUSH_S at most: the exporters' own time limits are longer, or not kept."""
    threads = [threading.Thread(target=flush, daemon=True) for flush in flushes]
    for thread in threads:
        thread.start()
    give_up = time.monotonic() + FLUSH_S
    for thread in threads:
        thread.join(max(0.0, give_up - time.monotonic()))
