"""lmi's decision table, on litellm's exception classes: to compare with lmi, or to migrate from it.

It does what lmi does, with its faults: a used-up quota is retried like a rate limit, and a provider's wait is not read.
There are three differences. The SDK makes no hidden retries. An HTTP 200 without an answer is retried as if a validator
had rejected it; lmi returns it. A broken validator ends the call; lmi treats its exception as a rejection and buys the
answer again from every model.
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
    """The same category with lmi's action; the provider's wait is not read.

    A missing stored response is left to the default table: lmi never continues from one.
    """
    if verdict.final or verdict.demand == "resend_all_messages":
        return verdict
    if verdict.demand == "wait_for_key":  # no model was asked, so lmi has no answer to this
        return replace(verdict, reads_hints=False, rule=f"lmi:{verdict.rule}")
    return replace(verdict, demand=_demand(facts), reads_hints=False, rule=f"lmi:{verdict.rule}")


def _demand(facts: FailureFacts) -> Demand | None:
    """None for a fault on our own side: nothing was sent, and litellm's exception class says nothing about it."""
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
    """A rejected answer, or no response; None leaves everything else to the default table."""
    if facts.local_fault is not None:
        return "retry"
    if facts.answer_defect is None:
        return None
    final = (AnswerDefect.REFUSAL, AnswerDefect.CONTENT_FILTER, AnswerDefect.TOO_FEW)
    return "next" if facts.answer_defect in final else "retry"


def _means_next(facts: FailureFacts) -> bool:
    return facts.http_status in (401, 403, 404) or any(phrase in facts.text.lower() for phrase in NEXT_PHRASES)
