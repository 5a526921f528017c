"""How providers have answered this worker lately: it tells whether the worker or a provider is the trouble."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from durable_llm.contract.facts import FailureFacts, Sent
from durable_llm.contract.result import Answer

LATELY_S: Final = 300.0
_MOST: Final = 10_000


class Recent:
    """The attempts of the last five minutes, at most 10,000, whose request was sent.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ended: deque[tuple[float, str, str | None]] = deque(maxlen=_MOST)

    def add(self, model: str, outcome: Answer | FailureFacts) -> None:
        """Take how an attempt of a model ended."""
        headline = None
        if isinstance(outcome, FailureFacts):
            if outcome.request_sent == Sent.NO and outcome.http_status is None:
                return
            headline = outcome.model_copy(update={"text": ""}).headline()
        self._ended.append((self._clock(), model.partition("/")[0], headline))

    def by_provider(self) -> dict[str, dict[str, Any]]:
        """For each provider how many attempts it answered, how many failed, and the last failure without its text."""
        while self._ended and self._clock() - self._ended[0][0] > LATELY_S:
            self._ended.popleft()
        found: dict[str, dict[str, Any]] = {}
        for _, provider, failure in self._ended:
            entry = found.setdefault(provider, {"answered": 0, "failed": 0, "last_failure": None})
            entry["answered" if failure is None else "failed"] += 1
            entry["last_failure"] = failure or entry["last_failure"]
        return found
