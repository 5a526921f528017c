"""The worker's metrics, recorded from the attributes of attempts and calls."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from opentelemetry import metrics
from opentelemetry.metrics import Counter, Histogram, Meter

from .attempt_attributes import Attributes, Value
from .names import ATTEMPTS, CALLS, COST, DURATION, SCOPE, TOKENS, UNFINISHED_CALLS, Attribute, Metric

logger = logging.getLogger("durable_llm.telemetry")

_TOKEN_TYPES: Final = {"input": Attribute.INPUT_TOKENS, "output": Attribute.OUTPUT_TOKENS}


class Instruments:
    """One worker's histograms and counters."""

    def __init__(self, meter: Meter) -> None:
        self._duration = _histogram(meter, DURATION)
        self._tokens = _histogram(meter, TOKENS)
        self._attempts = _counter(meter, ATTEMPTS)
        self._calls = _counter(meter, CALLS)
        self._cost = _counter(meter, COST)

    def record_attempt(self, span: Attributes, duration_s: float | None) -> None:
        """Record duration and tokens of an attempt, from the attributes of its span."""
        if duration_s is not None:
            self._duration.record(duration_s, _only(DURATION.attributes, span))
        for kind, counted in _TOKEN_TYPES.items():
            tokens = span.get(counted)
            if isinstance(tokens, int):
                self._tokens.record(tokens, _only(TOKENS.attributes, {**span, Attribute.TOKEN_TYPE: kind}))

        cost = span.get(Attribute.COST)
        if isinstance(cost, float) and cost > 0:
            self._cost.add(cost, _only(COST.attributes, span))

    def count_attempt(self, attributes: Attributes) -> None:
        """Count an attempt that its call has classified."""
        self._attempts.add(1, _only(ATTEMPTS.attributes, attributes))

    def count_call(self, attributes: Attributes) -> None:
        """Count a call that ended."""
        self._calls.add(1, _only(CALLS.attributes, attributes))


def unfinished_gauge() -> Callable[[str, int], None]:
    """Sets the gauge of unfinished calls of this process."""
    metric = UNFINISHED_CALLS
    gauge = metrics.get_meter(SCOPE).create_gauge(metric.name, metric.unit, metric.about)
    return lambda outcome, count: gauge.set(count, {Attribute.OUTCOME.value: outcome})


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
    """Log an exception and go on: telemetry must never cost an answer or block a call.

    The exception's text is not logged, because it may quote a prompt.
    """
    try:
        yield
    except Exception as error:
        logger.warning("telemetry is incomplete: %s", type(error).__name__)
