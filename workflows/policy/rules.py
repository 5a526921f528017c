"""The table that says what a failure is, read from top to bottom: the first row that fits decides.

The order is the order of trust. What our own side did comes first, then what an HTTP 200 lacked; then the status on the
wire picks the group, and within it the provider's code and structured fields refine before its text does. litellm's
exception class counts only where there was no response, since it is chosen partly by substrings of the message (a 400
whose text mentions "rate limit" becomes a RateLimitError).

A row fits when each of its conditions fits: `said` is looked for in code, type and structured fields, `text` in the
provider's words; a row with both needs one of them. All patterns ignore case.
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
    said: str = ""
    text: str = ""
    exception: Collection[str] = ()
    also: Predicate | None = None
    final: bool = False
    """Whether the call ends, whatever a preset or the caller's own rules say."""
    demand: Demand | None = None
    """What is done about it, where that is not what its category demands."""

    def fits(self, facts: FailureFacts) -> bool:
        """Whether every condition of this row holds."""
        return (
            (not self.fault or facts.local_fault in self.fault)
            and (not self.defect or facts.answer_defect in self.defect)
            and (not self.status or facts.http_status in self.status)
            and (not self.exception or facts.exception in self.exception)
            and (not (self.said or self.text) or self._is_said(facts))
            and (self.also is None or self.also(facts))
        )

    def _is_said(self, facts: FailureFacts) -> bool:
        structured = (facts.error_code, facts.error_type, *facts.error_details)
        if self.said and any(_found(self.said, field) for field in structured if field):
            return True
        return bool(self.text) and _found(self.text, facts.text)


def _found(pattern: str, text: str) -> bool:
    return re.search(pattern, text, re.IGNORECASE) is not None  # re caches compiled patterns


def can_never_fit(facts: FailureFacts) -> bool:
    """Whether the provider said that the request asks for more than its limit per minute allows at all."""
    limit, requested = _number(r"\blimit[ =:]+", facts), _number(r"\brequested[ =:]+", facts)
    return limit is not None and requested is not None and requested > limit


def _number(label: str, facts: FailureFacts) -> float | None:
    for text in (*facts.error_details, facts.text):
        if found := re.search(label + r"(\d[\d,_]*)", text, re.IGNORECASE):
            return float(found[1].replace(",", "").replace("_", ""))
    return None


def no_response(facts: FailureFacts) -> bool:
    """Whether the provider sent no status at all."""
    return facts.http_status is None


C, F, D = Category, LocalFault, AnswerDefect

OUR_SIDE = (
    Rule("worker-lost", C.WORKER_LOST, "heartbeats stopped or the worker was drained; nobody saw the end",
         fault={F.LOST, F.DRAINED}),
    Rule("undeciphered", C.WORKER_LOST, "the worker lacks the encryption key; nothing was sent, another may have it",
         fault={F.UNDECIPHERED}, demand="await_key"),
    Rule("set-up", C.MISCONFIGURED, "waiting changes nothing until somebody sets something",
         fault={F.MISSING_KEY, F.KEY_NOT_ALLOWED, F.ADDRESS_NOT_ALLOWED, F.PARAMETER_NOT_ALLOWED, F.UNKNOWN_PROVIDER,
                F.MISSING_PACKAGE, F.PROMPT_UNREADABLE}),
    Rule("unknown-validator", C.MISCONFIGURED, "this worker has no such validator; no model changes that",
         fault={F.UNKNOWN_VALIDATOR}, final=True),
    Rule("broken-validator", C.MISCONFIGURED, "the answer is paid for and kept; another one would meet the same fault",
         fault={F.BROKEN_VALIDATOR}, final=True),
    Rule("no-schema", C.INVALID_REQUEST, "the schema of the answer is none: no model could follow it",
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
    Rule("length", C.LENGTH, "the token budget was spent and nothing was said; the same budget ends the same way",
         defect={D.LENGTH}),
    Rule("n-ignored", C.PROVIDER_LIMIT, "one choice where several were asked for; another provider may heed `n`",
         defect={D.TOO_FEW}),
    Rule("tool-arguments", C.BAD_SAMPLE, "a new sample usually passes", defect={D.INVALID_TOOL_ARGUMENTS}),
    Rule("tool-calls", C.BAD_SAMPLE, "as above", defect={D.UNKNOWN_TOOL, D.NO_TOOL_CALL}),
    Rule("not-the-schema", C.BAD_SAMPLE, "as above", defect={D.NOT_THE_SCHEMA}),
    Rule("rejected", C.BAD_SAMPLE, "a validator's reason; a new sample may pass", defect={D.REJECTED}),
    Rule("no-answer", C.UNUSABLE_ANSWER, "an empty, cut or unreadable 200", defect={D.EMPTY, D.CUT, D.UNREADABLE}),
)  # fmt: skip

_OPEN_4XX = frozenset({400, 406, 409, 411, 412, 415, 417, 422, 431})
_REFUSED_4XX = frozenset({400, 401, 402, 403, 404, 412, 413, 422, 429, 451})
_ANY_4XX = frozenset(range(400, 500))
_5XX = frozenset(range(500, 600))

BY_STATUS = (
    # A response that is not there, which is no missing model.
    Rule("response-gone", C.UNUSABLE_ANSWER, "the provider no longer has the background response; a new one is begun",
         status={404, 410}, also=lambda facts: facts.response_id is not None),
    Rule("previous-response", C.NOT_FOUND, "the response that the messages go on from is not there, or is ignored: "
         "the same model is asked once more, outside its `max_retries`, with all of them", demand="restate",
         also=lambda facts: facts.lacks_previous_response),

    # Every 4xx that says so in its code: codes are the provider's own verdict, and they beat the status.
    Rule("window-code", C.CONTEXT_WINDOW, "the code names the context window, whatever the status",
         status=_ANY_4XX, said=p.WINDOW_CODE),
    Rule("bad-sample-code", C.BAD_SAMPLE, "the model's own bad sample, reported as the client's error",
         status={400, 422}, said=p.BAD_SAMPLE, text=p.BAD_SAMPLE),
    Rule("filter-code", C.REFUSED, "a filter refused; the same model elsewhere has another one",
         status=_REFUSED_4XX, said=p.FILTER),

    # 429: a rate limit, unless it is a quota, a plan, or a request that can never fit.
    Rule("never-fits", C.TOO_LARGE, "requested more than the whole limit: no wait makes it fit",
         status={413, 429}, also=can_never_fit),
    Rule("429-per-minute", C.RATE_LIMITED, "Google's structured quota id says that it refills within the minute",
         status={429}, said=p.PER_MINUTE_FIELD,
         also=lambda facts: not any(_found(r"per[_-]?day|quotavalue=0\b", detail) for detail in facts.error_details)),
    Rule("429-quota", C.QUOTA_EXHAUSTED, "used up: waiting seconds never clears it",
         status={429}, said=p.QUOTA_FIELD, text=p.QUOTA_TEXT),
    Rule("429-plan", C.QUOTA_EXHAUSTED, "OpenAI's sentence for a plan that is used up",
         status={429}, text=p.PLAN_TEXT,
         also=lambda facts: facts.retry_after_s is None),
    Rule("429-window", C.CONTEXT_WINDOW, "some gateways report an overflow as 429", status={429}, text=p.WINDOW),
    Rule("429-overloaded", C.OVERLOADED, "the provider's capacity, not this account's limit",
         status={429, 498}, said=r"overloaded|capacity", text=r"overloaded|capacity|at the moment|temporarily"),
    Rule("429", C.RATE_LIMITED, "HTTP 429", status={429}),

    # This account, key, region or model.
    Rule("401", C.AUTH, "the key is not accepted", status={401, 407, 511}),
    Rule("402", C.QUOTA_EXHAUSTED, "HTTP 402: payment required", status={402}),
    Rule("403-quota", C.QUOTA_EXHAUSTED, "a balance or plan, reported as a missing right",
         status={403}, said=p.QUOTA_FIELD, text=p.QUOTA_TEXT),
    Rule("403-filter", C.REFUSED, "a moderation's refusal, reported as a missing right", status={403}, text=p.FILTER),
    Rule("403", C.PERMISSION, "this key, project or region may not", status={403, 451}),
    Rule("404", C.NOT_FOUND, "no such model or deployment here", status={404, 405, 410}),
    Rule("413-window", C.CONTEXT_WINDOW, "an overflow reported as a size", status={413}, said=p.WINDOW, text=p.WINDOW),
    Rule("413", C.TOO_LARGE, "larger than this provider's limit; others differ", status={413, 414}),

    # Transient 4xx.
    Rule("498", C.OVERLOADED, "Groq: flex tier capacity exceeded", status={498}),
    Rule("409-timeout", C.SERVER_ERROR, "HTTP 408, 409, 425: the same request later usually passes; 424 and 499 are a "
         "gateway's words for a backend that failed", status={408, 409, 424, 425, 460, 499}),

    # 400 and its kin: of the request, of this provider, or something else under a wrong status.
    Rule("400-window", C.CONTEXT_WINDOW, "a larger window elsewhere", status=_OPEN_4XX, said=p.WINDOW, text=p.WINDOW),
    Rule("400-key", C.AUTH, "a bad key reported as 400 (Google)", status=_OPEN_4XX, said=p.KEY, text=p.KEY),
    Rule("400-quota", C.QUOTA_EXHAUSTED, "a used-up balance reported as 400 (Anthropic, OpenAI)",
         status=_OPEN_4XX, said=p.QUOTA_FIELD, text=p.QUOTA_TEXT),
    Rule("400-broken", C.INVALID_REQUEST, "a broken transcript, schema or body: no provider takes it",
         status=_OPEN_4XX, said=p.BROKEN, text=p.BROKEN),
    Rule("400-filter", C.REFUSED, "a filter's refusal", status=_OPEN_4XX, text=p.FILTER),
    Rule("400-right", C.PERMISSION, "a region or a right, reported as 400",
         status=_OPEN_4XX, said=p.RIGHT_FIELD, text=p.RIGHT_TEXT),
    Rule("400-model", C.NOT_FOUND, "no such model, reported as 400",
         status=_OPEN_4XX, said=p.NO_MODEL, text=p.NO_MODEL),
    Rule("400-size", C.TOO_LARGE, "a size limit reported as 400", status=_OPEN_4XX, said=p.TOO_LARGE, text=p.TOO_LARGE),
    Rule("400-overloaded", C.OVERLOADED, "an overload reported as 400",
         status=_OPEN_4XX, said=r"overloaded|unavailable", text=r"overloaded|try again (later|in)|temporarily"),
    Rule("400-limit", C.PROVIDER_LIMIT, "a rule of this provider or model; others have other rules",
         status=_OPEN_4XX, said=p.PROVIDER_LIMIT, text=p.PROVIDER_LIMIT),
    Rule("4xx", C.INVALID_REQUEST, "the request itself, as far as the provider says", status=_ANY_4XX),

    # 3xx and 5xx.
    Rule("3xx", C.MISCONFIGURED, "a redirect is never followed, it would carry the key elsewhere; the address is wrong",
         status=frozenset(range(300, 400))),
    Rule("5xx-quota", C.QUOTA_EXHAUSTED, "a used-up quota reported as a server's fault",
         status=_5XX, said=r"insufficient_quota|billing"),
    Rule("501", C.PROVIDER_LIMIT, "not implemented here", status={501, 505}),
    Rule("503", C.OVERLOADED, "HTTP 503, and Anthropic's 529", status={503, 529}),
    Rule("5xx-overloaded", C.OVERLOADED, "an overload under another status",
         status=_5XX, said=r"overloaded|capacity", text=r"overloaded|at capacity|out of capacity"),
    Rule("5xx", C.SERVER_ERROR, "the provider's own fault; 520-527 are Cloudflare's words for it", status=_5XX),
)  # fmt: skip

# An error object inside a 200, where it names no status of its own (OpenAI's Responses "failed", error events).
ERROR_BODY = (
    Rule("body-window", C.CONTEXT_WINDOW, "as its status would say",
         defect={D.ERROR_BODY}, said=p.WINDOW, text=p.WINDOW),
    Rule("body-quota", C.QUOTA_EXHAUSTED, "as above", defect={D.ERROR_BODY}, said=p.QUOTA_FIELD, text=p.QUOTA_TEXT),
    Rule("body-rate", C.RATE_LIMITED, "as above", defect={D.ERROR_BODY},
         said=r"rate_?limit|too_many_requests|resource_exhausted", text=r"rate limit"),
    Rule("body-filter", C.REFUSED, "as above", defect={D.ERROR_BODY}, said=p.FILTER, text=p.FILTER),
    Rule("body-key", C.AUTH, "as above", defect={D.ERROR_BODY}, said=p.KEY),
    Rule("body-model", C.NOT_FOUND, "as above", defect={D.ERROR_BODY}, said=p.NO_MODEL, text=p.NO_MODEL),
    Rule("body-invalid", C.INVALID_REQUEST, "as above", defect={D.ERROR_BODY},
         said=r"^invalid_(request|prompt|value|image)"),
    Rule("body-overloaded", C.OVERLOADED, "as above", defect={D.ERROR_BODY}, said=r"overloaded|unavailable|capacity",
         text=r"overloaded|capacity"),
    Rule("body", C.SERVER_ERROR, "an error inside a 200 that says nothing better", defect={D.ERROR_BODY}),
)  # fmt: skip

NO_RESPONSE = (
    Rule("connection", C.CONNECTION, "no connection, or it broke", fault={F.CONNECT, F.DISCONNECTED}),
    Rule("class-timeout", C.TIMEOUT, "litellm's class, for want of a response", also=no_response,
         exception={"Timeout"}),
    Rule("class-connection", C.CONNECTION, "as above", also=no_response,
         exception={"APIConnectionError", "MidStreamFallbackError"}),
    Rule("class-server", C.SERVER_ERROR, "as above", also=no_response,
         exception={"APIError", "BadGatewayError", "InternalServerError", "OpenAIError", "RouterRateLimitError",
                    "RouterRateLimitErrorBasic", "RouterErrors", "MockException", "VectorStoreSearchError"}),
    Rule("class-overloaded", C.OVERLOADED, "as above", also=no_response, exception={"ServiceUnavailableError"}),
    Rule("class-rate", C.RATE_LIMITED, "as above", also=no_response, exception={"RateLimitError"}),
    Rule("class-quota", C.QUOTA_EXHAUSTED, "as above", also=no_response,
         exception={"BudgetExceededError", "PaymentRequiredError"}),
    Rule("class-auth", C.AUTH, "as above", also=no_response, exception={"AuthenticationError"}),
    Rule("class-permission", C.PERMISSION, "as above", also=no_response,
         exception={"PermissionDeniedError", "BlockedPiiEntityError", "GuardrailInterventionNormalStringError",
                    "GuardrailRaisedException", "ModifyResponseException", "SensitiveDataRouteException"}),
    Rule("class-not-found", C.NOT_FOUND, "as above", also=no_response,
         exception={"NotFoundError", "ModelNotMappedError"}),
    Rule("class-window", C.CONTEXT_WINDOW, "as above", also=no_response, exception={"ContextWindowExceededError"}),
    Rule("class-refused", C.REFUSED, "as above", also=no_response,
         exception={"ContentPolicyViolationError", "RejectedRequestError"}),
    Rule("class-unreadable", C.UNUSABLE_ANSWER, "as above", also=no_response,
         exception={"APIResponseValidationError", "JSONSchemaValidationError"}),
    Rule("class-limit", C.PROVIDER_LIMIT, "as above", also=no_response, exception={"UnsupportedParamsError"}),
    Rule("class-request", C.INVALID_REQUEST, "as above", also=no_response,
         exception={"BadRequestError", "InvalidRequestError", "UnprocessableEntityError", "ImageFetchError",
                    "LiteLLMUnknownProvider"}),
    Rule("unknown", C.SERVER_ERROR, "nothing is known: one more try is cheaper than a lost call"),
)  # fmt: skip

RULES_V1: tuple[Rule, ...] = (*OUR_SIDE, *NOT_AN_ANSWER, *BY_STATUS, *ERROR_BODY, *NO_RESPONSE)
"""The table of policy version 1. Its last row fits everything."""
