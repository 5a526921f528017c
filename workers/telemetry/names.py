"""Every span, event, attribute and metric that a worker exports, declared once, with a sentence each.

Names that begin with gen_ai, server, error and http are those of OpenTelemetry's semantic conventions, so that
dashboards made for any LLM client read ours; names of our own begin with durable_llm. docs/telemetry.md shows these
tables, and a test holds it to them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SCOPE: Final = "durable_llm"
"""Instrumentation scope of all spans and metrics."""

CALL_SPAN: Final = "durable_llm.call"
JUDGED_EVENT: Final = "durable_llm.attempt.judged"
CHAT: Final = "chat"

SPANS: Final[Mapping[str, str]] = {
    CALL_SPAN: "A call, from its acceptance by Temporal to its end, waits included. Internal.",
    f"{CHAT} {{model}}": "One attempt: one request to a provider. Client, child of the call.",
}

EVENTS: Final[Mapping[str, str]] = {
    JUDGED_EVENT: "On the call: an attempt ended, with what it was judged to be and what is done about it.",
}


class Attribute(StrEnum):
    """Names of attributes."""

    OPERATION = "gen_ai.operation.name"
    PROVIDER = "gen_ai.provider.name"
    REQUEST_MODEL = "gen_ai.request.model"
    MAX_TOKENS = "gen_ai.request.max_tokens"
    TEMPERATURE = "gen_ai.request.temperature"
    TOP_P = "gen_ai.request.top_p"
    RESPONSE_MODEL = "gen_ai.response.model"
    RESPONSE_ID = "gen_ai.response.id"
    FINISH_REASONS = "gen_ai.response.finish_reasons"
    INPUT_TOKENS = "gen_ai.usage.input_tokens"
    OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
    CACHE_READ_TOKENS = "gen_ai.usage.cache_read.input_tokens"
    CACHE_CREATION_TOKENS = "gen_ai.usage.cache_creation.input_tokens"
    TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105  # a kind of tokens, no secret
    CONVERSATION = "gen_ai.conversation.id"
    INPUT_MESSAGES = "gen_ai.input.messages"
    OUTPUT_MESSAGES = "gen_ai.output.messages"
    TOOL_DEFINITIONS = "gen_ai.tool.definitions"
    SERVER_ADDRESS = "server.address"
    SERVER_PORT = "server.port"
    HTTP_STATUS = "http.response.status_code"
    ERROR_TYPE = "error.type"
    CALL_ID = "durable_llm.call_id"
    MODEL = "durable_llm.model"
    NUMBER = "durable_llm.attempt.number"
    TRY = "durable_llm.attempt.try"
    PREVIOUS_CATEGORY = "durable_llm.previous.category"
    PREVIOUS_DECISION = "durable_llm.previous.decision"
    OUTCOME = "durable_llm.outcome"
    CATEGORY = "durable_llm.category"
    DECISION = "durable_llm.decision"
    RULE = "durable_llm.rule"
    ERROR_CODE = "durable_llm.error_code"
    REQUEST_ID = "durable_llm.request_id"
    COST = "durable_llm.cost_usd"
    COST_COMPLETE = "durable_llm.cost_complete"
    ATTEMPTS = "durable_llm.attempts_total"


ATTRIBUTES: Final[Mapping[Attribute, tuple[str, str]]] = {
    Attribute.OPERATION: ("attempt", "Always `chat`."),
    Attribute.PROVIDER: ("attempt", "`openai`, `anthropic`, `gcp.gemini`, ...; else litellm's name."),
    Attribute.REQUEST_MODEL: ("attempt", "The model asked, without litellm's provider prefix."),
    Attribute.MAX_TOKENS: ("attempt", "As the spec asks, where it does."),
    Attribute.TEMPERATURE: ("attempt", "As the spec asks, where it does."),
    Attribute.TOP_P: ("attempt", "As the spec asks, where it does."),
    Attribute.RESPONSE_MODEL: ("attempt, call", "The model that answered, as the provider names it."),
    Attribute.RESPONSE_ID: ("attempt, call", "The provider's id of the answer."),
    Attribute.FINISH_REASONS: ("attempt", "One for each choice."),
    Attribute.INPUT_TOKENS: ("attempt", "Tokens of the prompt, those from the cache included."),
    Attribute.OUTPUT_TOKENS: ("attempt", "Tokens of the answer."),
    Attribute.CACHE_READ_TOKENS: ("attempt", "Tokens of the prompt that came from the provider's cache."),
    Attribute.CACHE_CREATION_TOKENS: ("attempt", "Tokens of the prompt that were written to the provider's cache."),
    Attribute.TOKEN_TYPE: ("metric", "`input` or `output`."),
    Attribute.CONVERSATION: ("call", "The call's `session`, where it has one."),
    Attribute.INPUT_MESSAGES: ("attempt", "The messages, as JSON. Only when switched on."),
    Attribute.OUTPUT_MESSAGES: ("attempt", "The answer, as JSON. Only when switched on."),
    Attribute.TOOL_DEFINITIONS: ("attempt", "The tools offered, as JSON. Only when switched on."),
    Attribute.SERVER_ADDRESS: ("attempt", "The host that was asked."),
    Attribute.SERVER_PORT: ("attempt", "Its port."),
    Attribute.HTTP_STATUS: ("attempt", "Status of the response."),
    Attribute.ERROR_TYPE: ("attempt, call", "The failure's category, as in the ledger; on a call, how it ended."),
    Attribute.CALL_ID: ("attempt, call", "The call's id, which is the workflow's."),
    Attribute.MODEL: ("attempt, event", "The model as the chain names it, prefix included: as in the ledger."),
    Attribute.NUMBER: ("attempt, event", "1 for the call's first attempt."),
    Attribute.TRY: ("attempt, event", "1 for the first attempt on this model."),
    Attribute.PREVIOUS_CATEGORY: ("attempt", "What the attempt before was judged to be."),
    Attribute.PREVIOUS_DECISION: ("attempt", "The decision that led to this attempt: `retry`, `next` or `wait`."),
    Attribute.OUTCOME: (
        "attempt, call, event", "`answered`, `failed`, `unknown`, `cancelled`; of a call also `exhausted`, ...",
    ),
    Attribute.CATEGORY: ("event", "What the attempt's failure was judged to be."),
    Attribute.DECISION: ("event", "What is done about it: `retry`, `next`, `wait` or `fail`."),
    Attribute.RULE: ("event", "The rule that decided."),
    Attribute.ERROR_CODE: ("attempt", "The provider's own code."),
    Attribute.REQUEST_ID: ("attempt", "The provider's id of the request."),
    Attribute.COST: ("attempt, call", "USD, where known; of a call the known part of all attempts."),
    Attribute.COST_COMPLETE: ("call", "Whether every attempt's cost is known."),
    Attribute.ATTEMPTS: ("call", "How many attempts the call made."),
}  # fmt: skip
"""Where each attribute stands, and what it says."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric."""

    name: str
    kind: str
    unit: str
    about: str
    attributes: Sequence[Attribute]
    buckets: Sequence[float] = ()


_ASKED: Final = (
    Attribute.OPERATION, Attribute.PROVIDER, Attribute.REQUEST_MODEL, Attribute.RESPONSE_MODEL,
    Attribute.SERVER_ADDRESS, Attribute.SERVER_PORT,
)  # fmt: skip

DURATION: Final = Metric(
    name="gen_ai.client.operation.duration",
    kind="histogram",
    unit="s",
    about="How long each attempt took, from its request to the end of its response.",
    attributes=(*_ASKED, Attribute.ERROR_TYPE),
    buckets=(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
)
TOKENS: Final = Metric(
    name="gen_ai.client.token.usage",
    kind="histogram",
    unit="{token}",
    about="Tokens of each attempt that the provider counted, those of rejected answers too.",
    attributes=(*_ASKED, Attribute.TOKEN_TYPE),
    buckets=tuple(4**power for power in range(14)),
)
ATTEMPTS: Final = Metric(
    name="durable_llm.attempts",
    kind="counter",
    unit="{attempt}",
    about="Attempts, by what they were judged to be and what was done about it.",
    attributes=(Attribute.MODEL, Attribute.OUTCOME, Attribute.CATEGORY, Attribute.DECISION),
)
CALLS: Final = Metric(
    name="durable_llm.calls",
    kind="counter",
    unit="{call}",
    about="Calls that ended, by how.",
    attributes=(Attribute.OUTCOME,),
)
METRICS: Final = (DURATION, TOKENS, ATTEMPTS, CALLS)


def tables() -> str:
    """The declarations as Markdown."""
    spans = [f"| `{name}` | {about} |" for name, about in SPANS.items()]
    events = [f"| `{name}` (event) | {about} |" for name, about in EVENTS.items()]
    attributes = [f"| `{name}` | {where} | {about} |" for name, (where, about) in ATTRIBUTES.items()]
    metrics = [
        f"| `{m.name}` | {m.kind} | `{m.unit}` | {m.about} By {', '.join(f'`{name}`' for name in m.attributes)}. |"
        for m in METRICS
    ]
    return "\n".join([
        "| span | |", "|---|---|", *spans, *events, "",
        "| attribute | on | |", "|---|---|---|", *attributes, "",
        "| metric | kind | unit | |", "|---|---|---|---|", *metrics,
    ])  # fmt: skip
