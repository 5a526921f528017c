"""What an attempt shows to the worker's telemetry.

The attempt finds out its provider, its host and a large prompt only on its way. It records them here, so that it needs
to know nothing of spans. Where nobody observes it, nothing is recorded.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from durable_llm.contract.request import Prompt

from .wire.exchange import Exchange


@dataclass
class Observation:
    """What is known of an attempt beside its order and its outcome."""

    provider: str | None = None
    """litellm's name of the provider."""
    prompt: Prompt | None = None
    exchange: Exchange | None = None
    secrets: Callable[[], Collection[str]] | None = None
    """Tells the credential values that the worker knows, to be kept out of what is exported; asked at the end, since a
    secret file may be read on the way. None: the attempt ended before it looked, and nothing of it may be shown."""

    @property
    def host(self) -> str | None:
        """Host and port that were asked, if the request was made."""
        return self.exchange.host if self.exchange else None


_current: ContextVar[Observation | None] = ContextVar("observation", default=None)


def record_observation(
    *, provider: str, prompt: Prompt, exchange: Exchange, secrets: Callable[[], Collection[str]]
) -> None:
    """Record what the running attempt has found out, where somebody observes it."""
    seen = _current.get()
    if seen is not None:
        seen.provider, seen.prompt, seen.exchange, seen.secrets = provider, prompt, exchange, secrets


@contextmanager
def observing() -> Iterator[Observation]:
    """Observe the attempt that runs inside the block."""
    seen = Observation()
    token = _current.set(seen)
    try:
        yield seen
    finally:
        _current.reset(token)
