"""The worker's metrics: made from their declarations, fed with attributes of attempts and calls."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from opentelemetry.metrics import Counter, Histogram, Meter

from .attempt_attributes import Attributes, Value
from .names import ATTEMPTS, CALLS, DURATION, TOKENS, Attribute, Metric

logger = logging.getLogger("durable_llm.telemetry")

_TOKEN_TYPES: Final = {"input": Attribute.INPUT_TOKENS, "output": Attribute.OUTPUT_TOKENS}


class Instruments:
    """One worker's histograms and counters."""

    def __init__(self, meter: Meter) -> None:
        self._duration = _histogram(meter, DURATION)
        self._tokens = _histogram(meter, TOKENS)
        self._attempts = _counter(meter, ATTEMPTS)
        self._calls = _counter(meter, CALLS)

    def asked(self, span: Attributes, duration_s: float | None) -> None:
        """An attempt ended here: its duration and its tokens, by the attributes of its span."""
        if duration_s is not None:
            self._duration.record(duration_s, _only(DURATION.attributes, span))
        for kind, counted in _TOKEN_TYPES.items():
            tokens = span.get(counted)
            if isinstance(tokens, int):
                self._tokens.record(tokens, _only(TOKENS.attributes, {**span, Attribute.TOKEN_TYPE: kind}))

    def judged(self, attributes: Attributes) -> None:
        """An attempt was judged by its call."""
        self._attempts.add(1, _only(ATTEMPTS.attributes, attributes))

    def ended(self, attributes: Attributes) -> None:
        """A call ended."""
        self._calls.add(1, _only(CALLS.attributes, attributes))


def _histogram(meter: Meter, metric: Metric) -> Histogram:
    return meter.create_histogram(
        metric.name, metric.unit, metric.about, explicit_bucket_boundaries_advisory=list(metric.buckets)
    )


def _counter(meter: Meter, metric: Metric) -> Counter:
    return meter.create_counter(metric.name, metric.unit, metric.about)


def _only(names: Iterable[str], attributes: Mapping[str, Value]) -> Attributes:
    return {str(name): attributes[name] for name in names if name in attributes}


@contextmanager
def telemetry_errors_logged() -> Iterator[None]:
    """Log what fails inside and go on: telemetry must not cost an answer or hold a call up.

    The exception's text is left out, since it may quote a prompt.
    """
    try:
        yield
    except Exception as error:
        logger.warning("telemetry is incomplete: %s", type(error).__name__)
