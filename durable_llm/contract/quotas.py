"""Quotas: what an operator declares of a provider account, and what workers and the quota's workflow say to each other.

A quota has a task queue of its own, whose rate the Temporal server keeps for all workers together. Attempts wait there
in order, without a worker. The workflow `LLMQuota` sets the rate from what workers report.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final, Self

from pydantic import Field, model_validator

from durable_llm.contract.chains import read_declared
from durable_llm.contract.config import ModelSpecOnWire
from durable_llm.contract.facts import FailureFacts
from durable_llm.contract.wire import Strict, Wire

_BETWEEN: Final = "/quota/"
_LEARNED: Final = "learned."
MOST_OUTCOMES: Final = 50
"""Runs of equal outcomes in a report. Beyond that the oldest are left out."""

HARDLY_ANYTHING: Final = 0.05
"""Share of a limit. When a provider says that less is left, an account that has no declared pace is slowed too."""


class QuotaLimits(Wire):
    """What a provider allows, as the quota's workflow reads it. None: no such limit is known."""

    requests_per_minute: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    tokens_per_minute: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Tokens of prompts and answers together."""
    concurrent_requests: Annotated[int, Field(ge=1, le=100_000)] | None = None


class Quota(QuotaLimits, Strict):
    """What an operator declares of one provider account and class of models.

    Raises:
        pydantic.ValidationError: (a ValueError) on an unknown field, or without a limit.
    """

    model_config = Strict.model_config

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$", max_length=60)]
    models: Annotated[list[str], Field(min_length=1)]
    """Names of specs; "*" stands for anything: "openai/gpt-4o-mini*"."""
    api_key: str | None = None
    """The reference in the specs whose account this is ("os.environ/NAME"). None: whatever key they name."""
    api_base: str | None = None
    """The address in the specs. None: any."""

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if is_learned(self.name):
            raise ValueError(f"name: those that begin with {_LEARNED!r} are for quotas that nobody declares")
        if self.limits == QuotaLimits():
            raise ValueError("expected requests_per_minute, tokens_per_minute or concurrent_requests")
        return self

    @property
    def limits(self) -> QuotaLimits:
        """The limits alone."""
        return QuotaLimits(**{name: getattr(self, name) for name in QuotaLimits.model_fields})

    def covers(self, spec: ModelSpecOnWire) -> bool:
        """Whether requests of a spec count against this quota."""
        return (
            self.api_key in (None, spec.api_key)
            and self.api_base in (None, spec.api_base)
            and any(fnmatchcase(spec.name, pattern) for pattern in self.models)
        )


class Quotas:
    """The declared quotas, in the file's order."""

    def __init__(self, quotas: Iterable[Quota] = ()) -> None:
        self._quotas = tuple(quotas)

    def __iter__(self) -> Iterator[Quota]:
        return iter(self._quotas)

    def of(self, spec: ModelSpecOnWire) -> Quota | None:
        """The first quota that covers a spec."""
        return next((quota for quota in self._quotas if quota.covers(spec)), None)


def read_quotas(environment: Mapping[str, str] | None = None) -> Quotas:
    """The quotas of the operator's file.

    Args:
        environment: Where DURABLE_LLM_CHAINS is. None: the process's.

    Raises:
        ValueError: the file or a quota in it is wrong; names the quota.
    """
    return Quotas(read_declared("quotas", Quota, environment))


def quota_queue(task_queue: str, name: str) -> str:
    """The task queue of a quota's attempts, beside the queue of their calls."""
    return f"{task_queue}{_BETWEEN}{name}"


def account_of(spec: ModelSpecOnWire) -> str:
    """A short hash of a spec's account and model: its name, its address and the reference to its key."""
    return hashlib.sha256(json.dumps([spec.name, spec.api_base, spec.api_key]).encode()).hexdigest()[:12]


def learned_name(spec: ModelSpecOnWire) -> str:
    """The name of the quota that is learned of a spec's account and model, where none is declared."""
    return f"{_LEARNED}{re.sub(r'[^A-Za-z0-9_.-]', '-', spec.name)[:40]}-{account_of(spec)}"


def is_learned(name: str) -> bool:
    """Whether a quota of this name was learned, and not declared."""
    return name.startswith(_LEARNED)


def quota_id(task_queue: str) -> str:
    """The id of the workflow that keeps the rate of a quota's task queue."""
    return f"quotas/{task_queue}"


def of_quota_queue(task_queue: str) -> tuple[str, str | None]:
    """The calls' queue, and the quota's name if `task_queue` is a quota's."""
    calls, found, name = task_queue.rpartition(_BETWEEN)
    return (calls, name) if found else (task_queue, None)


class Outcomes(Wire):
    """Requests that ended in the same way, one after the other."""

    count: int = 1
    failure: FailureFacts | None = None
    """None: answered."""


class QuotaReport(Wire):
    """What one worker saw of a quota since its last report."""

    sent: int = 0
    """Attempts that started."""
    reserved_tokens: float = 0
    """Estimated tokens of those attempts."""
    settled_tokens: float = 0
    """Real tokens minus the estimate, of attempts that ended."""
    outcomes: list[Outcomes] = Field(default_factory=list)
    """How attempts ended, in order."""
    headroom: float | None = None
    """The share of its limit that the provider says is left, from 0 to 1; the smaller of requests and tokens."""


class QuotaStart(Wire):
    """What the workflow of a quota begins with."""

    task_queue: str
    limits: QuotaLimits
    state: dict[str, Any] = Field(default_factory=dict)
    """What its last run knew."""


class QuotaRate(Wire):
    """A rate for the server to keep, and why."""

    task_queue: str
    per_second: float | None
    """Attempts a second. 0: none. None: as many as come."""
    reason: str


class QuotaStatus(Wire):
    """What a quota does now."""

    name: str
    per_second: float | None
    reason: str
    limits: QuotaLimits
