"""The table that says what a failure is, read from top to bottom: the first row that fits decides.

The order is the order of trust. Faults on our own side come first, then defects of an HTTP 200. Then the status on the
wire picks the group; within it the provider's code and structured fields come before its text. litellm's exception
class counts only without a response, because litellm partly chooses it by substrings of the message (a 400 whose text
mentions "rate limit" becomes a RateLimitError).

A row fits if each of its conditions fits. `code` is a pattern for the provider's code, `fields` one for the code, the
type and the structured fields, `text` one for the provider's words; a row with both of the last two needs one of them.
Patterns ignore case.
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
    code: str = ""
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
            and (not self.code or found(self.code, facts.error_code or ""))
            and (not (self.fields or self.text) or self._matches(facts))
            and (self.also is None or self.also(facts))
        )

    def _matches(self, facts: FailureFacts) -> bool:
        structured = (facts.error_code, facts.error_type, *facts.error_details)
        if self.fields and any(found(self.fields, field) for field in structured if field):
            return True
        return bool(self.text) and found(self.text, facts.text)


def found(pattern: str, text: str) -> bool:
    """Whether `pattern` matches somewhere in `text`."""
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
    Rule("worker-lost", C.WORKER_LOST,
         "The worker stopped heartbeating or was drained. Nobody saw how the request ended.",
         fault={F.LOST, F.DRAINED}),
    Rule("undeciphered", C.WORKER_LOST,
         "This worker lacks the encryption key and sent nothing. Another worker may have the key.",
         fault={F.UNDECIPHERED}, demand="wait_for_key"),
    Rule("set-up", C.MISCONFIGURED, "The worker's set-up is incomplete. Waiting does not change that.",
         fault={F.MISSING_KEY, F.KEY_NOT_ALLOWED, F.ADDRESS_NOT_ALLOWED, F.PARAMETER_NOT_ALLOWED, F.UNKNOWN_PROVIDER,
                F.MISSING_PACKAGE, F.PROMPT_UNREADABLE}),
    Rule("budget-spent", C.BUDGET,
         "The call's budget is spent. Another model would spend what the budget protects.",
         fault={F.BUDGET_SPENT}, final=True),
    Rule("budget-waits", C.BUDGET, "The call's budget has no room yet. The budget wakes the call.",
         fault={F.BUDGET_WAITS}, demand="wait_for_budget"),
    Rule("held", C.HELD, "An operator holds the account or the model. The call goes on when it is released.",
         fault={F.HELD}, demand="wait_for_release"),
    Rule("unknown-validator", C.MISCONFIGURED, "This worker has no such validator. Another model does not change that.",
         fault={F.UNKNOWN_VALIDATOR}, final=True),
    Rule("broken-validator", C.MISCONFIGURED,
         "The validator itself failed. The answer is paid for and kept; the next one would meet the same bug.",
         fault={F.BROKEN_VALIDATOR}, final=True),
    Rule("no-schema", C.INVALID_REQUEST,
         "The schema given for the answer is not a valid JSON Schema. No model could follow it.",
         fault={F.INVALID_SCHEMA}),
    Rule("not-built", C.PROVIDER_LIMIT,
         "litellm cannot express this request for this provider. Another provider may take it.",
         fault={F.UNSUPPORTED, F.REQUEST_NOT_BUILT}),
    Rule("store", C.CONNECTION, "The store that holds the prompt did not answer. Nothing was sent.",
         fault={F.STORE_UNAVAILABLE}),
    Rule("timed-out", C.TIMEOUT, "The attempt reached its own timeout. The request may have been billed.",
         fault={F.TIMEOUT}),
)  # fmt: skip

NOT_AN_ANSWER = (
    Rule("refusal", C.REFUSED, "The model or a filter declined. The same prompt meets the same filter again.",
         defect={D.REFUSAL, D.CONTENT_FILTER}),
    Rule("length", C.LENGTH, "The token budget was spent before any text. The same budget ends the same way.",
         defect={D.LENGTH}),
    Rule("n-ignored", C.PROVIDER_LIMIT,
         "One choice came back where several were asked for. Another provider may support `n`.",
         defect={D.TOO_FEW}),
    Rule("tool-arguments", C.BAD_SAMPLE, "The tool arguments are not a JSON object. A new sample usually passes.",
         defect={D.INVALID_TOOL_ARGUMENTS}),
    Rule("tool-calls", C.BAD_SAMPLE,
         "The answer calls a tool that was not offered, or none where one was required. A new sample may pass.",
         defect={D.UNKNOWN_TOOL, D.NO_TOOL_CALL}),
    Rule("not-the-schema", C.BAD_SAMPLE, "The text does not match the schema. A new sample may pass.",
         defect={D.NOT_THE_SCHEMA}),
    Rule("rejected", C.BAD_SAMPLE, "A validator rejected the answer. A new sample may pass.", defect={D.REJECTED}),
    Rule("no-answer", C.UNUSABLE_ANSWER, "The response is empty, cut off or unreadable. Another try usually works.",
         defect={D.EMPTY, D.CUT, D.UNREADABLE}),
    Rule("wrong-vectors", C.UNUSABLE_ANSWER,
         "There is not one vector of the right length for each text. Another try usually works.",
         defect={D.WRONG_VECTORS}),
)  # fmt: skip

OPEN_4XX = frozenset({400, 406, 409, 411, 412, 415, 417, 422, 431})
_REFUSED_4XX = frozenset({400, 401, 402, 403, 404, 412, 413, 422, 429, 451})
ANY_4XX = frozenset(range(400, 500))
_5XX = frozenset(range(500, 600))

BY_STATUS = (
    # A missing response, which is not a missing model.
    Rule("response-gone", C.UNUSABLE_ANSWER,
         "The provider no longer has the background response. The next attempt starts a new one.",
         status={404, 410}, also=lambda facts: facts.response_id is not None),
    Rule("previous-response", C.NOT_FOUND,
         "The stored response is gone, or the server ignored it. The full conversation does without it.",
         demand="resend_all_messages",
         also=lambda facts: facts.lacks_previous_response),

    # Codes are the provider's own classification, and they count more than the status.
    Rule("window-code", C.CONTEXT_WINDOW, "The code names the context window. That holds whatever the status says.",
         status=ANY_4XX, fields=p.WINDOW_CODE),
    Rule("bad-sample-code", C.BAD_SAMPLE,
         "The model wrote a bad sample, and the provider reports it as the client's error.",
         status={400, 422}, fields=p.BAD_SAMPLE, text=p.BAD_SAMPLE),
    Rule("filter-code", C.REFUSED, "A content filter refused. Another model has another filter.",
         status=_REFUSED_4XX, fields=p.FILTER),

    # 429: a rate limit, unless it is a quota, a plan, or a request that can never fit.
    Rule("never-fits", C.TOO_LARGE, "The request asks for more than the whole limit. No wait makes it fit.",
         status={413, 429}, also=can_never_fit),
    Rule("429-per-minute", C.RATE_LIMITED, "Google's quota id says that this limit refills within the minute.",
         status={429}, fields=p.PER_MINUTE_FIELD,
         also=lambda facts: not any(found(r"per[_-]?day|quotavalue=0\b", detail) for detail in facts.error_details)),
    Rule("429-quota", C.QUOTA_EXHAUSTED, "The quota is used up. Waiting for seconds does not refill it.",
         status={429}, fields=p.QUOTA_FIELD, text=p.QUOTA_TEXT),
    Rule("429-plan", C.QUOTA_EXHAUSTED, "OpenAI says so when the plan is used up.",
         status={429}, text=p.PLAN_TEXT,
         also=lambda facts: facts.retry_after_s is None),
    Rule("429-window", C.CONTEXT_WINDOW, "Some gateways report a prompt that is too long as 429.",
         status={429}, text=p.WINDOW),
    Rule("429-overloaded", C.OVERLOADED, "The provider is short of capacity. This account's limit is not the reason.",
         status={429, 498}, fields=r"overloaded|capacity", text=r"overloaded|capacity|at the moment|temporarily"),
    Rule("429", C.RATE_LIMITED, "This account sent too much in a short time. The limit refills.", status={429}),

    # This account, key, region or model.
    Rule("401", C.AUTH, "The provider does not accept the key.", status={401, 407, 511}),
    Rule("402", C.QUOTA_EXHAUSTED, "The provider wants a payment first.", status={402}),
    Rule("403-quota", C.QUOTA_EXHAUSTED, "A used-up balance or plan, reported as a missing permission.",
         status={403}, fields=p.QUOTA_FIELD, text=p.QUOTA_TEXT),
    Rule("403-filter", C.REFUSED, "A content filter refused, reported as a missing permission.",
         status={403}, text=p.FILTER),
    Rule("403", C.PERMISSION, "This key, project or region lacks the permission.", status={403, 451}),
    Rule("404", C.NOT_FOUND, "The model or deployment does not exist here.", status={404, 405, 410}),
    Rule("413-window", C.CONTEXT_WINDOW, "A prompt that is too long for the context window, reported as a size limit.",
         status={413}, fields=p.WINDOW, text=p.WINDOW),
    Rule("413", C.TOO_LARGE, "The request is larger than this provider allows. Other providers allow more.",
         status={413, 414}),

    # Transient 4xx.
    Rule("498", C.OVERLOADED, "Groq's status for a flex tier without capacity.", status={498}),
    Rule("409-timeout", C.SERVER_ERROR,
         "The same request usually passes later. Gateways use 424 and 499 for a backend that failed.",
         status={408, 409, 424, 425, 460, 499}),

    # 400 and similar: a fault of the request, a rule of this provider, or something else under a wrong status.
    Rule("400-window", C.CONTEXT_WINDOW,
         "The prompt is too long for this model. Another model may have a larger window.",
         status=OPEN_4XX, fields=p.WINDOW, text=p.WINDOW),
    Rule("400-key", C.AUTH, "Google reports a bad key as 400.", status=OPEN_4XX, fields=p.KEY, text=p.KEY),
    Rule("400-quota", C.QUOTA_EXHAUSTED, "Anthropic and OpenAI report a used-up balance as 400.",
         status=OPEN_4XX, fields=p.QUOTA_FIELD, text=p.QUOTA_TEXT),
    Rule("400-broken", C.INVALID_REQUEST, "The transcript, schema or body is broken. No provider takes it.",
         status=OPEN_4XX, fields=p.BROKEN, text=p.BROKEN),
    Rule("400-filter", C.REFUSED, "A content filter refused.", status=OPEN_4XX, text=p.FILTER),
    Rule("400-right", C.PERMISSION, "A missing permission or an unsupported region, reported as 400.",
         status=OPEN_4XX, fields=p.RIGHT_FIELD, text=p.RIGHT_TEXT),
    Rule("400-model", C.NOT_FOUND, "The model does not exist here, reported as 400.",
         status=OPEN_4XX, fields=p.NO_MODEL, text=p.NO_MODEL),
    Rule("400-size", C.TOO_LARGE, "The request is larger than this provider allows, reported as 400.",
         status=OPEN_4XX, fields=p.TOO_LARGE, text=p.TOO_LARGE),
    Rule("400-overloaded", C.OVERLOADED, "An overload, reported as 400.",
         status=OPEN_4XX, fields=r"overloaded|unavailable", text=r"overloaded|try again (later|in)|temporarily"),
    Rule("400-limit", C.PROVIDER_LIMIT, "A rule of this provider or model. Others have other rules.",
         status=OPEN_4XX, fields=p.PROVIDER_LIMIT, text=p.PROVIDER_LIMIT),
    Rule("4xx", C.INVALID_REQUEST, "The provider blames the request, and nothing more specific is known.",
         status=ANY_4XX),

    # 3xx and 5xx.
    Rule("3xx", C.MISCONFIGURED, "Redirects are never followed, because the key would go along. The address is wrong.",
         status=frozenset(range(300, 400))),
    Rule("5xx-quota", C.QUOTA_EXHAUSTED, "A used-up quota, reported as a server error.",
         status=_5XX, fields=r"insufficient_quota|billing"),
    Rule("501", C.PROVIDER_LIMIT, "This provider does not implement what was asked for.", status={501, 505}),
    Rule("503", C.OVERLOADED, "The provider is overloaded. 529 is Anthropic's status for it.", status={503, 529}),
    Rule("5xx-overloaded", C.OVERLOADED, "An overload under another status.",
         status=_5XX, fields=r"overloaded|capacity", text=r"overloaded|at capacity|out of capacity"),
    Rule("5xx", C.SERVER_ERROR, "The provider failed. 520 to 527 are Cloudflare's statuses for that.", status=_5XX),
)  # fmt: skip

# An error object inside a 200 without a status of its own (OpenAI's Responses "failed", error events).
ERROR_BODY = (
    Rule("body-window", C.CONTEXT_WINDOW, "The prompt is too long for this model.",
         defect={D.ERROR_BODY}, fields=p.WINDOW, text=p.WINDOW),
    Rule("body-quota", C.QUOTA_EXHAUSTED, "The quota is used up.",
         defect={D.ERROR_BODY}, fields=p.QUOTA_FIELD, text=p.QUOTA_TEXT),
    Rule("body-rate", C.RATE_LIMITED, "This account sent too much in a short time.", defect={D.ERROR_BODY},
         fields=r"rate_?limit|too_many_requests|resource_exhausted", text=r"rate limit"),
    Rule("body-filter", C.REFUSED, "A content filter refused.", defect={D.ERROR_BODY}, fields=p.FILTER, text=p.FILTER),
    Rule("body-key", C.AUTH, "The provider does not accept the key.", defect={D.ERROR_BODY}, fields=p.KEY),
    Rule("body-model", C.NOT_FOUND, "The model does not exist here.",
         defect={D.ERROR_BODY}, fields=p.NO_MODEL, text=p.NO_MODEL),
    Rule("body-invalid", C.INVALID_REQUEST, "The request itself is broken.", defect={D.ERROR_BODY},
         fields=r"^invalid_(request|prompt|value|image)"),
    Rule("body-overloaded", C.OVERLOADED, "The provider is overloaded.",
         defect={D.ERROR_BODY}, fields=r"overloaded|unavailable|capacity",
         text=r"overloaded|capacity"),
    Rule("body", C.SERVER_ERROR, "The error says nothing more specific.", defect={D.ERROR_BODY}),
)  # fmt: skip

NO_RESPONSE = (
    Rule("connection", C.CONNECTION, "No connection could be made, or it broke.", fault={F.CONNECT, F.DISCONNECTED}),
    Rule("class-timeout", C.TIMEOUT, "litellm ran into a timeout.", also=no_response, exception={"Timeout"}),
    Rule("class-connection", C.CONNECTION, "litellm could not connect, or lost the connection.", also=no_response,
         exception={"APIConnectionError", "MidStreamFallbackError"}),
    Rule("class-server", C.SERVER_ERROR, "litellm reports an error of the provider, or one that it cannot name.",
         also=no_response,
         exception={"APIError", "BadGatewayError", "InternalServerError", "OpenAIError", "RouterRateLimitError",
                    "RouterRateLimitErrorBasic", "RouterErrors", "MockException", "VectorStoreSearchError"}),
    Rule("class-overloaded", C.OVERLOADED, "litellm reports that the service is unavailable.",
         also=no_response, exception={"ServiceUnavailableError"}),
    Rule("class-rate", C.RATE_LIMITED, "litellm reports a rate limit.", also=no_response, exception={"RateLimitError"}),
    Rule("class-quota", C.QUOTA_EXHAUSTED, "litellm reports a used-up budget.", also=no_response,
         exception={"BudgetExceededError", "PaymentRequiredError"}),
    Rule("class-auth", C.AUTH, "litellm reports a key that is not accepted.",
         also=no_response, exception={"AuthenticationError"}),
    Rule("class-permission", C.PERMISSION, "litellm or one of its guardrails refuses the request.", also=no_response,
         exception={"PermissionDeniedError", "BlockedPiiEntityError", "GuardrailInterventionNormalStringError",
                    "GuardrailRaisedException", "ModifyResponseException", "SensitiveDataRouteException"}),
    Rule("class-not-found", C.NOT_FOUND, "litellm does not find the model.", also=no_response,
         exception={"NotFoundError", "ModelNotMappedError"}),
    Rule("class-window", C.CONTEXT_WINDOW, "litellm reports a prompt that is too long.",
         also=no_response, exception={"ContextWindowExceededError"}),
    Rule("class-refused", C.REFUSED, "litellm reports a content filter.", also=no_response,
         exception={"ContentPolicyViolationError", "RejectedRequestError"}),
    Rule("class-unreadable", C.UNUSABLE_ANSWER, "litellm cannot read the response.", also=no_response,
         exception={"APIResponseValidationError", "JSONSchemaValidationError"}),
    Rule("class-limit", C.PROVIDER_LIMIT, "litellm says that the provider lacks one of the parameters.",
         also=no_response, exception={"UnsupportedParamsError"}),
    Rule("class-request", C.INVALID_REQUEST, "litellm says that the request is broken.", also=no_response,
         exception={"BadRequestError", "InvalidRequestError", "UnprocessableEntityError", "ImageFetchError",
                    "LiteLLMUnknownProvider"}),
    Rule("unknown", C.SERVER_ERROR, "Nothing is known. One more try costs less than a lost call."),
)  # fmt: skip

RULES_V1: tuple[Rule, ...] = (*OUR_SIDE, *NOT_AN_ANSWER, *BY_STATUS, *ERROR_BODY, *NO_RESPONSE)
"""The table of policy version 1. Its last row fits every failure."""
