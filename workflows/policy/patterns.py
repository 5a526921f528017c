"""Patterns for the words with which providers distinguish failures.

Each pattern describes what many bodies have in common, never one body's sentence: a noun and a statement about it, the
spelling of error codes, the names of structured fields. Matching ignores case.
"""

import re
from typing import Final


def any_of(*alternatives: str) -> str:
    """One pattern that matches if any of `alternatives` does."""
    return "|".join(alternatives)


QUOTA_FIELD: Final = any_of(
    r"insufficient[_ ]?(quota|credit|fund|balance)",  # OpenAI, DeepSeek
    r"quota[_ ]?(exceeded|exhausted)|usage_limit|access_terminated",
    r"billing|payment|credit|spend|arrears",
    r"per[_-]?(day|week|month)|\b(daily|monthly)|[_-]daily",  # Google's quotaId, OpenRouter's limit_source
    r"quotavalue=0\b",  # Google: a free tier that does not have this model
)
"""Codes and structured fields for a quota that does not refill while a call waits."""

QUOTA_TEXT: Final = any_of(
    r"\bper[ -]?(day|week|month)\b|\((rpd|tpd)\)",
    r"\b(daily|weekly|monthly)\b.{0,40}\b(limit|quota|cap|allowance)",
    r"insufficient[_ ](quota|balance|credit|fund)|credit balance|out of credits",
    r"\b(no|not enough|add|more|purchase|buy)\b.{0,12}\bcredits?\b|extra usage|recharge|\btop[ -]?up\b",
    r"billing (hard )?limit|billing.{0,20}(inactive|not active|disabled|enable|suspended)|payment required",
    r"(spend(ing)?|usage) (limit|cap)|\blimit: ?0\b",
    r"account .{0,20}(suspended|deactivated|in arrears|overdue)",
    r"(exhausted|used up) .{0,20}(quota|balance|allowance)",
)
"""The same in the provider's words."""

PLAN_TEXT: Final = r"exceeded your current quota.{0,40}plan and billing"
"""OpenAI's words for a used-up plan. Google also sends them for limits per minute, so structured fields come first."""

PER_MINUTE_FIELD: Final = r"per[_-]?(minute|second)"

WINDOW: Final = any_of(
    r"context[_ -]?(length|window|limit|size)|maximum context|max[_ ]?(model|seq\w*)[_ ]?len",
    r"string_above_max_length|model_max_prompt_tokens",
    r"(prompt|input|message|request|text|conversation)s? .{0,30}(is|are) too (long|many tokens)",
    r"(input|prompt) (is )?too long|too many (input |prompt )?tokens",
    r"token count .{0,40}exceed|tokens?.{0,20} (exceeds?|>) .{0,40}(maximum|limit|\d)",
    r"exceeds? .{0,40}(maximum|max|allowed).{0,30}tokens|tokens? .{0,40}(must|should) be (<=?|less than|at most)",
    r"reduce the length of the (messages|prompt|input)",
)
WINDOW_CODE: Final = r"context_length|context_window|string_above_max_length|model_max_prompt_tokens"

TOO_LARGE: Final = any_of(
    r"(request|payload|body|entity|file|content)[_ ]?(is )?too[_ ]large|(request|payload) size",
    r"(exceeds?|over|larger than) .{0,30}(maximum|max|allowed|limit).{0,20}(size|bytes|mb)\b",
)

FILTER: Final = any_of(
    r"content[_ -]?(filter|policy|moderation|management|safety|risk|exists risk)|responsibleai|data_inspection",
    r"prohibited_content|image_safety|recitation|blockreason|\bmoderat(ion|ed)",
    r"\bsafety\b.{0,30}(filter|system|setting|reason|polic|check|block)|safety reasons|usage polic",
    r"(prompt|output|input|response|request|content)s? .{0,30}(was|were|been|is|are)?.{0,12}(blocked|flagged|filtered)",
    r"(violat|against).{0,40}(polic|guideline|terms)|inappropriate content|sensitive (content|words)",
)

KEY: Final = any_of(
    r"(invalid|incorrect|wrong|missing|expired|disabled|revoked|no|bad)[_ ]?(\w+[_ ])?(api[_ -]?key|credential)",
    r"api[_ -]?key.{0,30}(invalid|not valid|incorrect|expired|missing|not found|disabled|revoked)",
    r"authentication|unauthenticated|unauthori[sz]ed|(could not|failed to) .{0,20}authenticate",
    r"(invalid|expired|missing) (access |auth )?token\b|access token.{0,20}(expired|invalid)",
)

RIGHT_FIELD: Final = r"unsupported_country|permission|user_location"
RIGHT_TEXT: Final = any_of(
    r"(location|country|region|territory).{0,40}not (supported|available|allowed)|not available in your",
    r"permission|not allowed to|(does|do) not have access|no access|access denied|forbidden",
    r"not (been )?(verified|enabled|activated)|must be verified|organi[sz]ation .{0,20}verif",
)

NO_MODEL: Final = any_of(
    r"model[_ ]?not[_ ]?(found|exist|available|supported)|(unknown|invalid|no such|unsupported)[_ ]model",
    r"deployment ?not ?found|model_decommissioned|model_terms_required|not a valid model",
    r"\bmodels?\b.{0,80}(does not exist|doesn't exist|not exist|not found|is not available|no longer available)",
    r"\bmodels?\b.{0,80}(has been (deprecated|removed|retired|shut)|is deprecated|decommission|retired|is not a valid)",
    r"no (endpoints|allowed providers|providers) (found|are available|available)",
)

BAD_SAMPLE: Final = any_of(
    r"tool_use_failed|failed_generation|json_validate_failed|output_parse_failed",
    r"model (generated|produced|output).{0,30}(invalid|malformed)",
)
"""The model's own malformed output, reported as the client's error (Groq)."""

BROKEN: Final = any_of(
    # A transcript whose tool calls and results do not match
    r"tool_use`? ids?.{0,40}without|tool_result.{0,60}(without|correspond|unexpected|must)",
    r"tool_call_ids?\b.{0,80}(respon|not found|must|did not)|must be followed by tool|tool messages? (must|following)",
    r"role 'tool' must|function response parts|number of function (response|call)|preceding message with .?tool_calls",
    # A body that is not JSON
    r"(could not|couldn't|cannot|failed to|unable to|error) (\w+ )?(pars|decod|read).{0,30}(json|body|request|payload)",
    r"(invalid|malformed|not valid|unparseable).{0,12} json|json.{0,20}(invalid|malformed|parse|decode|unexpected)",
    # An invalid tool
    r"invalid schema|invalid_function_parameters|invalid_json_schema|input_schema|not (a )?valid json ?schema",
    r"schema.{0,40}(invalid|must have|not valid)|match(es)? .{0,16}pattern",
    r"(names?|ids?) must be unique|duplicate .{0,20}name",
    # A field of the wrong type, or a missing one
    r"validation error|'loc':|literal_error|string_type|value_error|field required|invalid_type|invalid type",
    r"missing[_ ]required|required (parameter|field|property)|is (a )?required\b|invalid role|unexpected role",
)
"""A broken transcript, schema or body, which every provider refuses in its own words."""

PROVIDER_LIMIT: Final = any_of(
    r"n[o']t support|unsupported|not (be )?(allowed|permitted|available|enabled|implemented|compatible)|incompatible",
    r"only (support|allow|be|accept)|supported (values|levels|models)|may only|mutually exclusive|can(no|')t be used",
    r"not be empty|non-?empty|whitespace|empty (text|content|part|message|string)|empty_?array",
    r"too (many|much|big|small|large|long|short)|at (most|least)|max(imum)?[_ ](allowed|of|number|size)",
    r"(exceeds?|above|over|below|(larg|great|less)(er)? than).{0,40}(max|min|limit|allowed|size)",
    r"dimension|image|media|audio|video|pdf|document|\bfile\b",
    r"unknown (parameter|field|name|argument)|unrecognized|unexpected (keyword|argument|parameter|field)",
    r"extra (inputs|fields|_forbidden)|unknown_parameter|unsupported_(value|parameter)",
    r"(expected )?last (role|message)|first (message|content|turn)|must (start|end|alternate)",
    r"alternat|consecutive|prefill",
    r"thinking|reasoning|signature|effort|verbosity",
    r"temperature|top_[pk]|max_(completion_)?tokens|logprobs|penalty|\bseed\b",
    r"cache_control|parallel|response_format|json mode|structured|(system|developer) (message|role|prompt)",
    r"(this|the|requested) model|limited access|data polic|precondition",
)
"""Rules of one provider or model: what it does not support, how much it takes, the order of messages it wants."""

# From here on: patterns of policy version 2.

NO_QUOTA: Final = r"quota_?(limit_?)?value[\"' ]*[=:][\"' ]*0\b"
"""Google's structured field for a quota that this project does not have at all, in each of its spellings."""

QUOTA_FIELD_V2: Final = any_of(QUOTA_FIELD, NO_QUOTA)
QUOTA_TEXT_429_V2: Final = any_of(QUOTA_TEXT, NO_QUOTA)
QUOTA_TEXT_V2: Final = any_of(
    QUOTA_TEXT_429_V2, r"exceeded (your|the) (current )?quota|quota .{0,20}(exceeded|exhausted)"
)
"""Not for a 429: there Google says that a quota is exceeded when a limit per minute is."""

_ACCOUNT: Final = r"(accounts?|organi[sz]ations?|teams?|projects?|workspaces?|tenants?|subscriptions?)"
_STATE: Final = r"(disabled|restricted|banned|suspended|deactivated|blocked|terminated|closed|locked|frozen|on hold)"
ACCOUNT_FIELD: Final = rf"{_ACCOUNT}[_-]?(is[_-]?)?(not[_-]?active|inactive|{_STATE})"
ACCOUNT_TEXT: Final = any_of(
    rf"\b{_ACCOUNT}\b.{{0,60}}\b(is|are|was|were|been|currently)\b.{{0,20}}\b({_STATE}|not active|inactive)\b",
    rf"\b{_STATE} (account|organi[sz]ation|team|project|workspace|tenant|subscription)\b",
)
"""The state of whoever pays, which no change of the request can mend."""

TRANSIENT_CODE: Final = any_of(
    r"time[_-]?out|timed[_-]?out|server_?error|internal|unavailable|overloaded|bad_gateway|upstream",
    r"disconnect|connection|interrupted|aborted|try_again|temporar",
)
"""Codes of a failure that may not come again, whatever type stands beside them."""

SPEC_PARAMETER: Final = any_of(
    r"^(temperature|top_[pka]|min_p|n|seed|stop|stop_sequences|user|store|stream|stream_options|verbosity|truncation)\b",
    r"^(max_(completion_|output_)?tokens|max_tool_calls|logprobs|top_logprobs|logit_bias|parallel_tool_calls)\b",
    r"^(\w+_penalty|reasoning|reasoning_effort|thinking|service_tier|modalities|audio|prediction|include|metadata)\b",
    r"^(generation_?config|output_config|safety_?settings|web_search_options|prompt_cache_\w+|safety_identifier)\b",
)
"""Parameters that belong to one spec. Another model has its own."""

_GUESS: Final = re.compile(
    r"\((e\.? ?g\b|i\.? ?e\b|for example|for instance|such as|see|perhaps|maybe|possibly|likely)[^()]*\)"
    r"|\b(e\.g\.|for example|for instance|such as|perhaps|maybe|possibly)[^.;\n]*"
    r"|\b(may|might|could) (be|mean|have|indicate)\b[^.;\n]*",
    re.IGNORECASE,
)


def without_guesses(text: str) -> str:
    """`text` without guesses and examples: "Bad request (e.g. check quota)" does not say that a quota is used up."""
    return _GUESS.sub(" ", text)
