"""lmi's decision table, on litellm's exception classes: for who compares, or migrates from it.

It is what lmi does, faults included (a used-up quota is retried like a rate limit, a provider's wait is not read).
Only the hidden retries of the SDK are missing, and an HTTP 200 that is no answer is retried as if a validator had
rejected it: lmi returns it, which a durable call cannot, having nothing to return. And a validator that breaks ends the
call, where lmi takes its exception for a rejection and buys the answer again from every model.
"""

from dataclasses import replace

from durable_llm.contract.facts import AnswerDefect, FailureFacts, LocalFault

from .decide import Demand, Verdict

_OF_THE_NETWORK = (LocalFault.TIMEOUT, LocalFault.CONNECT, LocalFault.DISCONNECTED)

RETRYABLE = frozenset({
    "RateLimitError", "Timeout", "APIConnectionError", "InternalServerError", "ServiceUnavailableError",
    "BadGatewayError",
})  # fmt: skip
NEXT_MODEL = frozenset({
    "NotFoundError", "AuthenticationError", "PermissionDeniedError", "ContextWindowExceededError",
    "ContentPolicyViolationError",
})  # fmt: skip
NEXT_PHRASES = (
    "too much media",
    "image dimensions exceed max allowed size",
    "text content blocks must contain non-whitespace text",
    "limited access to this content for safety reasons",
)


def as_lmi(verdict: Verdict, facts: FailureFacts) -> Verdict:
    """The same category, with what lmi would do about it; what the provider says of waiting is not read.

    A stored response that is not there is left to the default table: lmi does not go on from any.
    """
    if verdict.final or verdict.demand == "restate":
        return verdict
    if verdict.demand == "await_key":  # no model was asked, so there is nothing that lmi would do
        return replace(verdict, reads_hints=False, rule=f"lmi:{verdict.rule}")
    return replace(verdict, demand=_demand(facts), reads_hints=False, rule=f"lmi:{verdict.rule}")


def _demand(facts: FailureFacts) -> Demand | None:
    """None for a fault of our own side: nothing was sent, and litellm's class of it says nothing."""
    if facts.local_fault is not None and facts.local_fault not in _OF_THE_NETWORK:
        return None
    if facts.exception is None:
        return _without_exception(facts)
    if facts.exception in RETRYABLE:
        return "retry"
    if facts.exception in NEXT_MODEL:
        return "next"
    if facts.exception == "BadRequestError" and _means_next(facts):
        return "next"
    return "fail"


def _without_exception(facts: FailureFacts) -> Demand | None:
    """An answer that was rejected, or no response; what is neither is judged by the default table."""
    if facts.local_fault is not None:
        return "retry"
    if facts.answer_defect is None:
        return None
    final = (AnswerDefect.REFUSAL, AnswerDefect.CONTENT_FILTER, AnswerDefect.TOO_FEW)
    return "next" if facts.answer_defect in final else "retry"


def _means_next(facts: FailureFacts) -> bool:
    return facts.http_status in (401, 403, 404) or any(phrase in facts.text.lower() for phrase in NEXT_PHRASES)
