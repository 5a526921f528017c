"""Every error that a caller can get, grouped by what the caller can do about it.

    DurableLLMError
      InvalidRequestError           correct the call; nothing was sent
      UnsupportedRequestError       upgrade the workers, or register there what the request names
      DispatcherUnavailableError    start the Temporal server, or correct its address
      ResultNotReadyError           wait longer, or attach later; the call continues
      CallNotFoundError             submit the call first (or its retention has passed)
      CallConflictError             use another call_id: this one belongs to another request
      DecryptionError               set the encryption key that the text names
      AllModelsExhaustedError       no model of the chain answered
      RequestRejectedError          no model would take the request
        TextsRejectedError          shorten, correct or leave out the texts that it names
      BrokenValidatorError          fix the validator; the paid answer is in the error
      BudgetExceededError           raise the budget, or spend less; nothing was sent
      DeadlineExceededError         the deadline passed first
      CallCancelledError            somebody cancelled the call
      CallTerminatedError           an operator or the server terminated the call

All can be pickled, and all carry `call_id` and the ledger in `attempts`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from durable_llm.contract.categories import CallOutcome, Category
from durable_llm.contract.facts import LocalFault
from durable_llm.contract.key_reference import redact_literal_keys
from durable_llm.contract.ledger import Attempt, Intervention
from durable_llm.contract.result import LLMResult

_PASSING: Final = frozenset({
    Category.RATE_LIMITED, Category.OVERLOADED, Category.SERVER_ERROR, Category.CONNECTION, Category.UNUSABLE_ANSWER,
    Category.BAD_SAMPLE, Category.TIMEOUT, Category.QUOTA_EXHAUSTED, Category.WORKER_LOST,
})  # fmt: skip
"""Failures that pass by themselves, or when somebody pays a bill."""


class DurableLLMError(Exception):
    """Base of this package's errors.

    Attributes:
        message: The error in words, without keys and without prompt text.
        call_id: The call's id, None if there is no call yet.
        attempts: The call's ledger, as far as it is known: the first 20 and the last 180 entries.
        interventions: What operators told the call, the last 50, if the call itself ended with this error.
    """

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed at another time."""
        if isinstance(self, AllModelsExhaustedError):
            return any(entry.category in _PASSING for entry in self.attempts)
        return isinstance(self, _PASSING_ERRORS)

    def __init__(
        self, message: str, *, call_id: str | None = None, attempts: Sequence[Attempt] = (),
        interventions: Sequence[Intervention] = (),
    ) -> None:  # fmt: skip
        message = redact_literal_keys(message)  # it may quote a key that was pasted in the wrong place
        super().__init__(message)
        self.message = message
        self.call_id = call_id
        self.attempts = list(attempts)
        self.interventions = list(interventions)

    def __reduce__(self) -> tuple[Any, ...]:
        """Exceptions pickle by their positional arguments alone; ours have more."""
        return _rebuild, (type(self), self.args, self.__dict__.copy())


def _rebuild(kind: type[DurableLLMError], args: tuple[Any, ...], state: dict[str, Any]) -> DurableLLMError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class InvalidRequestError(DurableLLMError):
    """The request was refused before anything was sent; the text says what to write instead."""


class UnsupportedRequestError(DurableLLMError):
    """The worker does not understand the request: it is older than the client, or lacks a validator of that name."""


class DispatcherUnavailableError(DurableLLMError):
    """Temporal did not answer, or lacks the namespace or our search attributes; the text names the address."""


class ResultNotReadyError(DurableLLMError, TimeoutError):
    """The call did not end within the caller's `wait`; it continues."""


class CallNotFoundError(DurableLLMError):
    """There is no call with this id, or the namespace's retention has passed."""


class CallConflictError(DurableLLMError):
    """The id is taken by another request.

    Attributes:
        differing: The parts that differ: "models", "messages", "tools", "parameters", or "workflow type".
    """

    differing: tuple[str, ...] = ()

    def __init__(self, message: str, *, differing: Sequence[str] = (), **common: Any) -> None:
        super().__init__(message, **common)
        self.differing = tuple(differing)


class DecryptionError(DurableLLMError):
    """This process cannot decrypt what Temporal holds of the call; the text names the key."""


class _ProviderError(DurableLLMError):
    last_error: str | None = None

    def __init__(self, message: str, *, last_error: str | None = None, **common: Any) -> None:
        super().__init__(message, **common)
        self.last_error = last_error


class AllModelsExhaustedError(_ProviderError):
    """No model of the chain gave an answer.

    Attributes:
        last_error: The last attempt's failure in the provider's words ("429 rate_limit_exceeded: ...").
    """


class RequestRejectedError(_ProviderError):
    """The request itself is at fault: no model would take it.

    Attributes:
        last_error: The provider's reason ("400 invalid_value: ...").
    """


class TextsRejectedError(RequestRejectedError):
    """Some texts cannot be embedded: no model would take them.

    Attributes:
        texts: For each of these texts, by its place in the list, the provider's reason.
    """

    texts: Mapping[int, str] = {}

    def __init__(self, message: str, *, texts: Mapping[int, str] | None = None, **common: Any) -> None:
        super().__init__(message, **common)
        self.texts = dict(texts or {})


class BrokenValidatorError(DurableLLMError):
    """A validator or tool parser failed instead of accepting or rejecting the answer; no other model was asked.

    Attributes:
        answer: The paid answer, unchecked, with the ledger.
    """

    answer: LLMResult | None = None

    def __init__(self, message: str, *, answer: LLMResult | None = None, **common: Any) -> None:
        super().__init__(message, **common)
        self.answer = answer


class BudgetExceededError(DurableLLMError):
    """A budget of the call has no room for its request. No other model was asked; earlier attempts may have cost."""


class DeadlineExceededError(DurableLLMError):
    """The call's deadline passed before a model answered."""


class CallCancelledError(DurableLLMError):
    """The call was cancelled."""


class CallTerminatedError(DurableLLMError):
    """An operator or the Temporal server terminated the call."""


_PASSING_ERRORS: Final = (
    DispatcherUnavailableError, ResultNotReadyError, DeadlineExceededError, CallCancelledError, CallTerminatedError,
)  # fmt: skip
"""Errors that say nothing against the request itself."""


@dataclass(frozen=True)
class Ending:
    """One way in which the workflow ends a call without an answer."""

    error: type[DurableLLMError]
    outcome: CallOutcome
    fault: LocalFault | None = None
    """The fault on our own side that ends a call so; it takes precedence over the outcome's general error."""


ENDINGS: Final = (
    Ending(AllModelsExhaustedError, CallOutcome.EXHAUSTED),
    Ending(RequestRejectedError, CallOutcome.REJECTED),
    Ending(DeadlineExceededError, CallOutcome.DEADLINE),
    Ending(UnsupportedRequestError, CallOutcome.REJECTED, fault=LocalFault.UNKNOWN_VALIDATOR),
    Ending(UnsupportedRequestError, CallOutcome.REJECTED, fault=LocalFault.UNDECODABLE),
    Ending(BudgetExceededError, CallOutcome.REJECTED, fault=LocalFault.BUDGET_SPENT),
    Ending(BrokenValidatorError, CallOutcome.REJECTED, fault=LocalFault.BROKEN_VALIDATOR),
)
"""Which error and which outcome belong together: for the workflow, the caller's handle and the spans."""

CALL_ENDINGS: Final[Mapping[str, type[DurableLLMError]]] = {each.error.__name__: each.error for each in ENDINGS}
"""The errors that the workflow raises, by the type name of its ApplicationError."""


def outcome_of_error(kind: str | None) -> CallOutcome | None:
    """The outcome of a call that ended with an error of this type name; None for an error that the table lacks."""
    return next((each.outcome for each in ENDINGS if each.error.__name__ == kind), None)


def ending_for(outcome: CallOutcome, fault: str | None = None) -> Ending:
    """How a call with this outcome ends after a last attempt with this fault."""
    for each in ENDINGS:
        if each.fault is not None and each.fault == fault:
            return each
    return next(each for each in ENDINGS if each.outcome == outcome)
