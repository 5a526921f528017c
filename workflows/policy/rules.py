"""The table that says what a failure is, read from top to bottom: the first row that fits decides.

The order is the order of trust. Faults on our own side come first, then defects of an HTTP 200. Then the status on the
wire picks the group; within it the provider's code and structured fields come before its text. litellm's exception
class counts only without a response, because litellm partly chooses it by substrings of the message (a 400 whose text
mentions "rate limit" becomes a RateLimitError).

A row fits if each of its conditions fits. `fields` is a pattern for the code, the type and the structured fields,
`text` one for the provider's words; a row with both needs one of them. Patterns ignore case.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from durable_llm.contract.categories import Category
from durable_llm.contract.facts import AnswerDefect, FailureFacts, LocalFault

from . import patterns as p
from .decide import Demand

Predicate = Callable[[FailureFacts], bool]


@dataclass(frozen=True)
class Rule:
    """One row: a name for the ledger, the category, the conditions, and why."""

    name: str
    category: Category
    why: str
    fault: Collection[LocalFault] = ()
    defect: Collection[AnswerDefect] = ()
    status: Collection[int] = ()
    fields: str = ""
    text: str = ""
    exception: Collection[str] = ()
    also: Predicate | None = None
    final: bool = False
    """Whether the call ends regardless of the preset and the caller's own rules."""
    demand: Demand | None = None
    """What the call does, if that differs from the category's action."""

    def fits(self, facts: FailureFacts) -> bool:
        """Whether every condition of this row holds."""
        return (
            (not self.fault or facts.local_fault in self.fault)
            and (not self.defect or facts.answer_defect in self.defect)
            and (not self.status or facts.http_status in self.status)
            and (not self.exception or facts.exception in self.exception)
            and (not (self.fields or self.text) or self._matches(facts))
            and (self.also is None or self.also(facts))
        )

    def _matches(self, facts: FailureFacts) -> bool:
        structured = (facts.error_code, facts.error_type, *facts.error_details)
        if self.fields and any(_found(self.fields, field) for field in structured if field):
            return True
        return bool(self.text) and _found(self.text, facts.text)


def _found(pattern: str, text: str) -> bool:
    return re.search(pattern, text, re.IGNORECASE) is not None  # re caches compiled patterns


def can_never_fit(facts: FailureFacts) -> bool:
    """Whether the provider said that the request is larger than its whole limit per minute."""
    limit, requested = _number(r"\blimit[ =:]+", facts), _number(r"\brequested[ =:]+", facts)
    return limit is not None and requested is not None and requested > limit


def _number(label: str, facts: FailureFacts) -> float | None:
    for text in (*facts.error_details, facts.text):
        if found := re.search(label + r"(\d[\d,_]*)", text, re.IGNORECASE):
            return float(found[1].replace(",", "").replace("_", ""))
    return None


def no_response(facts: FailureFacts) -> bool:
    """Whether there was no HTTP status."""
    return facts.http_status is None


C, F, D = Category, LocalFault, AnswerDefect

OUR_SIDE = (
    Rule("worker-lost", C.WORKER_LOST, "heartbeats stopped or the worker was drained; nobody saw the end",
         fault={F.LOST, F.DRAINED}),
    Rule("undeciphered", C.WORKER_LOST, "the worker lacks the encryption key; nothing was sent, another may have it",
         fault={F.UNDECIPHERED}, demand="wait_for_key"),
    Rule("set-up", C.MISCONFIGURED, "waiting does not help until somebody changes a setting",
         fault={F.MISSING_KEY, F.KEY_NOT_ALLOWED, F.ADDRESS_NOT_ALLOWED, F.PARAMETER_NOT_ALLOWED, F.UNKNOWN_PROVIDER,
                F.MISSING_PACKAGE, F.PROMPT_UNREADABLE}),
    Rule("unknown-validator", C.MISCONFIGURED, "this worker has no such validator, whichever model answers",
         fault={F.UNKNOWN_VALIDATOR}, final=True),
    Rule("broken-validator", C.MISCONFIGURED, "the paid answer is kept; another answer would meet the same fault",
         fault={F.BROKEN_VALIDATOR}, final=True),
    Rule("no-schema", C.INVALID_REQUEST, "the schema is invalid, so no model can follow it",
         fault={F.INVALID_SCHEMA}),
    Rule("not-built", C.PROVIDER_LIMIT, "litellm cannot express this request for this provider; another may take it",
         fault={F.UNSUPPORTED, F.REQUEST_NOT_BUILT}),
    Rule("store", C.CONNECTION, "the store that holds the prompt did not answer; nothing was sent",
         fault={F.STORE_UNAVAILABLE}),
    Rule("timed-out", C.TIMEOUT, "the attempt's own deadline; the request may have been billed", fault={F.TIMEOUT}),
)  # fmt: skip

NOT_AN_ANSWER = (
    Rule("refusal", C.REFUSED, "the model or a filter declined; the same prompt meets the same filter",
         defect={D.REFUSAL, D.CONTENT_FILTER}),
    Rule("length", C.LENGTH, "the token budget was spent without any text; the same budget ends the same way",
         defect={D.LENGTH}),
    Rule("n-ignored", C.PROVIDER_LIMIT, "one choice although `n` asked for several; another provider may support `n`",
         defect={D.TOO_FEW}),
    Rule("tool-arguments", C.BAD_SAMPLE, "a new sample usually passes", defect={D.INVALID_TOOL_ARGUMENTS}),
    Rule("tool-calls", C.BAD_SAMPLE, "a new sample usually passes", defect={D.UNKNOWN_TOOL, D.NO_TOOL_CALL}),
    Rule("not-the-schema", C.BAD_SAMPLE, "a new sample usually passes", defect={D.NOT_THE_SCHEMA}),
    Rule("rejected", C.BAD_SAMPLE, "a validator rejected the answer; a new sample may pass", defect={D.REJECTED}),
    Rule("no-answer", C.UNUSABLE_ANSWER, "an empty, cut or unreadable 200", defect={D.EMPTY, D.CUT, D.UNREADABLE}),
)  # fmt: skip

_OPEN_4XX = frozenset({400, 406, 409, 411, 412, 415, 417, 422, 431})
_REFUSED_4XX = frozenset({400, 401, 402, 403, 404, 412, 413, 422, 429, 451})
_ANY_4XX = frozenset(range(400, 500))
_5XX = frozenset(range(500, 600))

BY_STATUS = (
    # A missing response, which is not a missing model.
    Rule("response-gone", C.UNUSABLE_ANSWER, "the provider no longer has the background response; a new one is started",
         status={404, 410}, also=lambda facts: facts.response_id is not None),
    Rule("previous-response", C.NOT_FOUND, "the response to continue from is missing or was ignored, so the same "
         "model is asked once more with all messages", demand="resend_all_messages",
         also=lambda facts: facts.lacks_previous_response),

    # Codes are the provider's own classification, and they count more than the status.
    Rule("window-code", C.CONTEXT_WINDOW, "the code names the context window; the status does not matter",
         status=_ANY_4XX, fields=p.WINDOW_CODE),
    Rule("bad-sample-code", C.BAD_SAMPLE, "the model's own bad sample, reported as an error of the client",
         status={400, 422}, fields=p.BAD_SAMPLE, text=p.BAD_SAMPLE),
    Rule("filter-code", C.REFUSED, "a filter refused; another provider has another filter",
         status=_REFUSED_4XX, fields=p.FILTER),

    # 429: a rate limit, unless it is a quota, a plan, or a request that can never fit.
    Rule("never-fits", C.TOO_LARGE, "the request is larger than the whole limit; waiting does not help",
         status={413, 429}, also=can_never_fit),
    Rule("429-per-minute", C.RATE_LIMITED, "Google's quota id says that the quota refills within a minute",
         status={429}, fields=p.PER_MINUTE_FIELD,
         also=lambda facts: not any(_found(r"per[_-]?day|quotavalue=0\b", detail) for detail in facts.error_details)),
    Rule("429-quota", C.QUOTA_EXHAUSTED, "the quota is used up; waiting for seconds does not help",
         status={429}, fields=p.QUOTA_FIELD, text=p.QUOTA_TEXT),
    Rule("429-plan", C.QUOTA_EXHAUSTED, "OpenAI's sentence for a plan that is used up",
         status={429}, text=p.PLAN_TEXT,
         also=lambda facts: facts.retry_after_s is None),
    Rule("429-window", C.CONTEXT_WINDOW, "some gateways report a context overflow as 429", status={429}, text=p.WINDOW),
    Rule("429-overloaded", C.OVERLOADED, "the provider is out of capacity; this is not a limit of the account",
         status={429, 498}, fields=r"overloaded|capacity", text=r"overloaded|capacity|at the moment|temporarily"),
    Rule("429", C.RATE_LIMITED, "HTTP 429", status={429}),

    # This account, key, region or model.
    Rule("401", C.AUTH, "the key is not accepted", status={401, 407, 511}),
    Rule("402", C.QUOTA_EXHAUSTED, "HTTP 402: payment required", status={402}),
    Rule("403-quota", C.QUOTA_EXHAUSTED, "a used-up balance or plan, reported as a missing permission",
         status={403}, fields=p.QUOTA_FIELD, text=p.QUOTA_TEXT),
    Rule("403-filter", C.REFUSED, "a moderation filter refused, reported as a missing permission",
         status={403}, text=p.FILTER),
    Rule("403", C.PERMISSION, "this key, project or region has no permission", status={403, 451}),
    Rule("404", C.NOT_FOUND, "no such model or deployment here", status={404, 405, 410}),
    Rule("413-window", C.CONTEXT_WINDOW, "a context overflow, reported as a size limit",
         status={413}, fields=p.WINDOW, text=p.WINDOW),
    Rule("413", C.TOO_LARGE, "larger than this provider's limit; others differ", status={413, 414}),

    # Transient 4xx.
    Rule("498", C.OVERLOADED, "Groq: flex tier capacity exceeded", status={498}),
    Rule("409-timeout", C.SERVER_ERROR, "the same request usually passes later; gateways send 424 and 499 if their "
         "backend failed", status={408, 409, 424, 425, 460, 499}),

    # 400 and similar: a fault of the request, a rule of this provider, or something else under a wrong status.
    Rule("400-window", C.CONTEXT_WINDOW, "another model may have a larger window",
         status=_OPEN_4XX, fields=p.WINDOW, text=p.WINDOW),
    Rule("400-key", C.AUTH, "a bad key, reported as 400 (Google)", status=_OPEN_4XX, fields=p.KEY, text=p.KEY),
    Rule("400-quota", C.QUOTA_EXHAUSTED, "a used-up balance, reported as 400 (Anthropic, OpenAI)",
         status=_OPEN_4XX, fields=p.QUOTA_FIELD, text=p.QUOTA_TEXT),
    Rule("400-broken", C.INVALID_REQUEST, "a broken transcript, schema or body, which no provider accepts",
         status=_OPEN_4XX, fields=p.BROKEN, text=p.BROKEN),
    Rule("400-filter", C.REFUSED, "a filter refused", status=_OPEN_4XX, text=p.FILTER),
    Rule("400-right", C.PERMISSION, "a missing permission or a wrong region, reported as 400",
         status=_OPEN_4XX, fields=p.RIGHT_FIELD, text=p.RIGHT_TEXT),
    Rule("400-model", C.NOT_FOUND, "no such model, reported as 400",
         status=_OPEN_4XX, fields=p.NO_MODEL, text=p.NO_MODEL),
    Rule("400-size", C.TOO_LARGE, "a size limit, reported as 400",
         status=_OPEN_4XX, fields=p.TOO_LARGE, text=p.TOO_LARGE),
    Rule("400-overloaded", C.OVERLOADED, "an overload, reported as 400",
         status=_OPEN_4XX, fields=r"overloaded|unavailable", text=r"overloaded|try again (later|in)|temporarily"),
    Rule("400-limit", C.PROVIDER_LIMIT, "a rule of this provider or model; another one may accept the request",
         status=_OPEN_4XX, fields=p.PROVIDER_LIMIT, text=p.PROVIDER_LIMIT),
    Rule("4xx", C.INVALID_REQUEST, "nothing says otherwise, so the request itself is at fault", status=_ANY_4XX),

    # 3xx and 5xx.
    Rule("3xx", C.MISCONFIGURED, "the address is wrong; "
         "redirects are never followed, because they would send the key elsewhere",
         status=frozenset(range(300, 400))),
    Rule("5xx-quota", C.QUOTA_EXHAUSTED, "a used-up quota, reported as a server error",
         status=_5XX, fields=r"insufficient_quota|billing"),
    Rule("501", C.PROVIDER_LIMIT, "not implemented here", status={501, 505}),
    Rule("503", C.OVERLOADED, "HTTP 503, and Anthropic's 529", status={503, 529}),
    Rule("5xx-overloaded", C.OVERLOADED, "an overload, reported with another status",
         status=_5XX, fields=r"overloaded|capacity", text=r"overloaded|at capacity|out of capacity"),
    Rule("5xx", C.SERVER_ERROR, "an error of the provider; Cloudflare sends 520-527 for it", status=_5XX),
)  # fmt: skip

# An error object inside a 200 without a status of its own (OpenAI's Responses "failed", error events).
ERROR_BODY = (
    Rule("body-window", C.CONTEXT_WINDOW, "the prompt exceeds the context window",
         defect={D.ERROR_BODY}, fields=p.WINDOW, text=p.WINDOW),
    Rule("body-quota", C.QUOTA_EXHAUSTED, "the quota is used up",
         defect={D.ERROR_BODY}, fields=p.QUOTA_FIELD, text=p.QUOTA_TEXT),
    Rule("body-rate", C.RATE_LIMITED, "a rate limit", defect={D.ERROR_BODY},
         fields=r"rate_?limit|too_many_requests|resource_exhausted", text=r"rate limit"),
    Rule("body-filter", C.REFUSED, "a filter refused", defect={D.ERROR_BODY}, fields=p.FILTER, text=p.FILTER),
    Rule("body-key", C.AUTH, "the key is not accepted", defect={D.ERROR_BODY}, fields=p.KEY),
    Rule("body-model", C.NOT_FOUND, "no such model", defect={D.ERROR_BODY}, fields=p.NO_MODEL, text=p.NO_MODEL),
    Rule("body-invalid", C.INVALID_REQUEST, "the request itself is at fault", defect={D.ERROR_BODY},
         fields=r"^invalid_(request|prompt|value|image)"),
    Rule("body-overloaded", C.OVERLOADED, "the provider is overloaded",
         defect={D.ERROR_BODY}, fields=r"overloaded|unavailable|capacity",
         text=r"overloaded|capacity"),
    Rule("body", C.SERVER_ERROR, "an error that says nothing more", defect={D.ERROR_BODY}),
)  # fmt: skip

NO_RESPONSE = (
    Rule("connection", C.CONNECTION, "no connection, or it broke", fault={F.CONNECT, F.DISCONNECTED}),
    Rule("class-timeout", C.TIMEOUT, "a timeout", also=no_response, exception={"Timeout"}),
    Rule("class-connection", C.CONNECTION, "the connection broke", also=no_response,
         exception={"APIConnectionError", "MidStreamFallbackError"}),
    Rule("class-server", C.SERVER_ERROR, "a server error", also=no_response,
         exception={"APIError", "BadGatewayError", "InternalServerError", "OpenAIError", "RouterRateLimitError",
                    "RouterRateLimitErrorBasic", "RouterErrors", "MockException", "VectorStoreSearchError"}),
    Rule("class-overloaded", C.OVERLOADED, "an overload", also=no_response, exception={"ServiceUnavailableError"}),
    Rule("class-rate", C.RATE_LIMITED, "a rate limit", also=no_response, exception={"RateLimitError"}),
    Rule("class-quota", C.QUOTA_EXHAUSTED, "a used-up budget", also=no_response,
         exception={"BudgetExceededError", "PaymentRequiredError"}),
    Rule("class-auth", C.AUTH, "a bad key", also=no_response, exception={"AuthenticationError"}),
    Rule("class-permission", C.PERMISSION, "not permitted", also=no_response,
         exception={"PermissionDeniedError", "BlockedPiiEntityError", "GuardrailInterventionNormalStringError",
                    "GuardrailRaisedException", "ModifyResponseException", "SensitiveDataRouteException"}),
    Rule("class-not-found", C.NOT_FOUND, "no such model", also=no_response,
         exception={"NotFoundError", "ModelNotMappedError"}),
    Rule("class-window", C.CONTEXT_WINDOW, "the context window",
         also=no_response, exception={"ContextWindowExceededError"}),
    Rule("class-refused", C.REFUSED, "a refusal", also=no_response,
         exception={"ContentPolicyViolationError", "RejectedRequestError"}),
    Rule("class-unreadable", C.UNUSABLE_ANSWER, "an unreadable answer", also=no_response,
         exception={"APIResponseValidationError", "JSONSchemaValidationError"}),
    Rule("class-limit", C.PROVIDER_LIMIT, "an unsupported parameter",
         also=no_response, exception={"UnsupportedParamsError"}),
    Rule("class-request", C.INVALID_REQUEST, "a bad request", also=no_response,
         exception={"BadRequestError", "InvalidRequestError", "UnprocessableEntityError", "ImageFetchError",
                    "LiteLLMUnknownProvider"}),
    Rule("unknown", C.SERVER_ERROR, "nothing is known, and one more try is cheaper than a lost call"),
)  # fmt: skip

RULES_V1: tuple[Rule, ...] = (*OUR_SIDE, *NOT_AN_ANSWER, *BY_STATUS, *ERROR_BODY, *NO_RESPONSE)
"""The table of policy version 1. Its last row fits every failure."""
