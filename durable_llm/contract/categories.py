"""The words for what can go wrong and for what the call does about it."""

from enum import StrEnum
from typing import Final


class Category(StrEnum):
    """What a failed attempt's failure is."""

    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server_error"
    CONNECTION = "connection"
    UNUSABLE_ANSWER = "unusable_answer"
    BAD_SAMPLE = "bad_sample"
    TIMEOUT = "timeout"
    QUOTA_EXHAUSTED = "quota_exhausted"
    AUTH = "auth"
    PERMISSION = "permission"
    NOT_FOUND = "not_found"
    CONTEXT_WINDOW = "context_window"
    TOO_LARGE = "too_large"
    REFUSED = "refused"
    PROVIDER_LIMIT = "provider_limit"
    LENGTH = "length"
    MISCONFIGURED = "misconfigured"
    INVALID_REQUEST = "invalid_request"
    UNRECOGNISED = "unrecognised"
    """The provider blames the request, and nothing that we know says why."""
    WORKER_LOST = "worker_lost"
    BUDGET = "budget"
    """Calls have spent what they may; nothing was sent."""
    HELD = "held"
    """An operator holds the account or the model; nothing was sent."""
    CANCELLED = "cancelled"


class Outcome(StrEnum):
    """How an attempt ended."""

    ANSWERED = "answered"
    FAILED = "failed"
    UNKNOWN = "unknown"
    """The request may have reached the provider and may be billed; nobody saw its end."""
    CANCELLED = "cancelled"


class Action(StrEnum):
    """What the policy does after a failed attempt."""

    RETRY = "retry"
    """Ask the same model again."""
    NEXT = "next"
    """Ask the next model of the chain."""
    WAIT = "wait"
    """All models were tried: wait, then start the chain again."""
    PARK = "park"
    """Wait for an operator, who may let the call start its chain again."""
    FAIL = "fail"
    """End the call."""


class CallOutcome(StrEnum):
    """Where a call stands: the values of the search attribute LLMOutcome. The first three have not ended."""

    RUNNING = "running"
    PAUSED = "paused"
    """An operator has paused it."""
    PARKED = "parked"
    """No model answered, and it waits for an operator."""
    ANSWERED = "answered"
    EXHAUSTED = "exhausted"
    REJECTED = "rejected"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"


UNFINISHED: Final = frozenset({CallOutcome.RUNNING, CallOutcome.PAUSED, CallOutcome.PARKED})
"""Outcomes of calls that have not ended."""
