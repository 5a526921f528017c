"""What the worker's telemetry sees of a running attempt.

The attempt learns its provider, its host and a large prompt while it runs. It records them here and knows nothing about
spans. Without an observer nothing is recorded.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from durable_llm.contract.request import Prompt

from .wire.exchange import Exchange


@dataclass
class Observation:
    """What is known about an attempt beside its order and its outcome."""

    provider: str | None = None
    """litellm's name of the provider."""
    prompt: Prompt | None = None
    exchange: Exchange | None = None
    trace: Mapping[str, str] = field(default_factory=dict)
    """Trace context of the attempt's span, as headers."""
    secrets: Callable[[], Collection[str]] | None = None
    """Returns the credential values that the worker knows, which must not be exported. Called at the end, because the
    attempt may read a secret file. None: the attempt ended before it read any, so no text of it may be shown."""

    @property
    def host(self) -> str | None:
        """Host and port of the request, if it was made."""
        return self.exchange.host if self.exchange else None


_current: ContextVar[Observation | None] = ContextVar("observation", default=None)


def record_observation(
    *, provider: str, prompt: Prompt, exchange: Exchange, secrets: Callable[[], Collection[str]]
) -> None:
    """Record what the running attempt has learned, if it is observed.

    Its request takes the trace context along if it goes to a host that the operator listed: a provider gets nothing
    that its answer does not need.
    """
    seen = _current.get()
    if seen is not None:
        seen.provider, seen.prompt, seen.exchange, seen.secrets = provider, prompt, exchange, secrets
        exchange.trace = {} if exchange.only_host is None else seen.trace


@contextmanager
def observing() -> Iterator[Observation]:
    """Observe the attempt that runs inside the block."""
    seen = Observation()
    token = _current.set(seen)
    try:
        yield seen
    finally:
        _current.reset(token)
