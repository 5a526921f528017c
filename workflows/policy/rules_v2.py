"""The table of policy version 2: version 1's rows, and those that measurements on unseen failures asked for.

What is specific beats what is generic: a provider's code beats the type beside it, a used-up quota and the state of an
account count under any 4xx, and a named parameter says whose fault it is. A 4xx that says nothing known goes to the
next model instead of ending the call.
"""

from collections.abc import Mapping
from typing import Final

from durable_llm.contract.facts import FailureFacts

from . import patterns as p
from .rules import (
    ANY_4XX,
    BY_STATUS,
    ERROR_BODY,
    NO_RESPONSE,
    NOT_AN_ANSWER,
    OPEN_4XX,
    OUR_SIDE,
    C,
    D,
    F,
    Rule,
    found,
)

NOT_429: Final = ANY_4XX - {429}
SPECIAL_4XX: Final = NOT_429 - OPEN_4XX | {409}


def revised(
    table: tuple[Rule, ...], *, before: Mapping[str, tuple[Rule, ...]], instead: Mapping[str, Rule]
) -> tuple[Rule, ...]:
    """`table` with new rows before some of its rows, and with others in the place of some, by their names."""
    return tuple(row for old in table for row in (*before.get(old.name, ()), instead.get(old.name, old)))


def names_spec_parameter(facts: FailureFacts) -> bool:
    """Whether the provider names a parameter that belongs to this spec."""
    return found(p.SPEC_PARAMETER, facts.error_param or "")


def code_is_generic(facts: FailureFacts) -> bool:
    """Whether the error has no code that says more than its type."""
    return found(r"^$|^invalid_(request|prompt|value|image)", facts.error_code or "")


NOT_AN_ANSWER_V2 = (
    Rule("out-of-window", C.CONTEXT_WINDOW,
         "The context window ended the answer in its middle. Another model may have a larger window.",
         defect={D.OUT_OF_WINDOW}),
    Rule("unfinished-turn", C.UNUSABLE_ANSWER,
         "The provider paused its turn and expects a request to go on. The same model would pause again.",
         defect={D.UNFINISHED}, demand="next"),
    *NOT_AN_ANSWER,
)  # fmt: skip

BY_STATUS_V2 = revised(
    BY_STATUS,
    before={
        "window-code": (
            Rule("4xx-transient-code", C.SERVER_ERROR, "The code says that the failure passes. It beats the type.",
                 status=OPEN_4XX, code=p.TRANSIENT_CODE),
        ),
        "401": (
            Rule("4xx-quota", C.QUOTA_EXHAUSTED, "A used-up quota or balance, reported under another status.",
                 status=SPECIAL_4XX, fields=p.QUOTA_FIELD_V2, text=p.QUOTA_TEXT_V2),
            Rule("4xx-account", C.PERMISSION,
                 "The account, organisation, team or project is suspended, disabled or the like. The request is fine.",
                 status=NOT_429, fields=p.ACCOUNT_FIELD, text=p.ACCOUNT_TEXT),
        ),
        "400-broken": (
            Rule("400-parameter", C.PROVIDER_LIMIT, "The error names a parameter of this spec. Others have their own.",
                 status=OPEN_4XX, also=names_spec_parameter),
            Rule("400-model-parameter", C.NOT_FOUND, "The error names the model.",
                 status=OPEN_4XX, also=lambda facts: facts.error_param == "model"),
        ),
    },
    instead={
        "429-per-minute": Rule(
            "429-per-minute", C.RATE_LIMITED, "Google's quota id says that this limit refills within the minute.",
            status={429}, fields=p.PER_MINUTE_FIELD,
            also=lambda facts: not any(found(rf"per[_-]?day|{p.NO_QUOTA}", detail) for detail in facts.error_details)),
        "429-quota": Rule(
            "429-quota", C.QUOTA_EXHAUSTED, "The quota is used up. Waiting for seconds does not refill it.",
            status={429}, fields=p.QUOTA_FIELD_V2, text=p.QUOTA_TEXT_429_V2),
        "400-quota": Rule(
            "400-quota", C.QUOTA_EXHAUSTED, "Anthropic and OpenAI report a used-up balance as 400.",
            status=OPEN_4XX, fields=p.QUOTA_FIELD_V2, text=p.QUOTA_TEXT_V2),
        "4xx": Rule(
            "4xx", C.UNRECOGNISED, "The provider blames the request and says nothing known. Another model may take it.",
            status=ANY_4XX),
    },
)  # fmt: skip

ERROR_BODY_V2 = revised(
    ERROR_BODY,
    before={
        "body-window": (
            Rule("body-transient-code", C.SERVER_ERROR, "The code says that the failure passes. It beats the type.",
                 defect={D.ERROR_BODY}, code=p.TRANSIENT_CODE),
        ),
        "body-rate": (
            Rule("body-account", C.PERMISSION, "The account is suspended, disabled or the like.",
                 defect={D.ERROR_BODY}, fields=p.ACCOUNT_FIELD, text=p.ACCOUNT_TEXT),
        ),
    },
    instead={
        "body-quota": Rule(
            "body-quota", C.QUOTA_EXHAUSTED, "The quota is used up.",
            defect={D.ERROR_BODY}, fields=p.QUOTA_FIELD_V2, text=p.QUOTA_TEXT_V2),
        "body-key": Rule(
            "body-key", C.AUTH, "The provider does not accept the key.",
            defect={D.ERROR_BODY}, fields=rf"{p.KEY}|invalid_?api_?key", text=p.KEY),
        "body-invalid": Rule(
            "body-invalid", C.INVALID_REQUEST, "The request itself is broken, and no code says otherwise.",
            defect={D.ERROR_BODY}, fields=r"^invalid_(request|prompt|value|image)", also=code_is_generic),
    },
)  # fmt: skip

NO_RESPONSE_V2 = (
    Rule("disconnected-late", C.TIMEOUT,
         "The connection ended after the request was sent and time had passed. The request may have been billed.",
         fault={F.DISCONNECTED}, also=lambda facts: facts.lost_late),
    *NO_RESPONSE,
)  # fmt: skip

OUR_SIDE_V2 = (
    Rule("undecodable", C.INVALID_REQUEST, "The prompt cannot be decoded. No client of ours wrote it.",
         fault={F.UNDECODABLE}, final=True),
    *OUR_SIDE,
)  # fmt: skip

RULES_V2: tuple[Rule, ...] = (*OUR_SIDE_V2, *NOT_AN_ANSWER_V2, *BY_STATUS_V2, *ERROR_BODY_V2, *NO_RESPONSE_V2)
"""The table of policy version 2. Its last row fits every failure."""
