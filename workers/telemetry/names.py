"""Names of every span, event, attribute and metric that a worker exports. docs/telemetry.md says what each one means.

Names that start with gen_ai, server, error and http are those of OpenTelemetry's semantic conventions, so that
dashboards made for any LLM client can read them. All others start with durable_llm.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SCOPE: Final = "durable_llm"
"""Instrumentation scope of all spans and metrics."""

CALL_SPAN: Final = "durable_llm.call"
CLASSIFIED_EVENT: Final = "durable_llm.attempt.judged"


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


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric."""

    name: str
    kind: str
    unit: str
    about: str
    attributes: Sequence[Attribute]
    buckets: Sequence[float] = ()


_REQUEST: Final = (
    Attribute.OPERATION, Attribute.PROVIDER, Attribute.REQUEST_MODEL, Attribute.RESPONSE_MODEL,
    Attribute.SERVER_ADDRESS, Attribute.SERVER_PORT,
)  # fmt: skip

DURATION: Final = Metric(
    name="gen_ai.client.operation.duration",
    kind="histogram",
    unit="s",
    about="Duration of each attempt, from its request to the end of its response.",
    attributes=(*_REQUEST, Attribute.ERROR_TYPE),
    buckets=(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
)
TOKENS: Final = Metric(
    name="gen_ai.client.token.usage",
    kind="histogram",
    unit="{token}",
    about="Tokens of each attempt as the provider counted them, those of rejected answers included.",
    attributes=(*_REQUEST, Attribute.TOKEN_TYPE),
    buckets=tuple(4**power for power in range(14)),
)
ATTEMPTS: Final = Metric(
    name="durable_llm.attempts",
    kind="counter",
    unit="{attempt}",
    about="Attempts, by category and decision.",
    attributes=(Attribute.MODEL, Attribute.OUTCOME, Attribute.CATEGORY, Attribute.DECISION),
)
CALLS: Final = Metric(
    name="durable_llm.calls",
    kind="counter",
    unit="{call}",
    about="Calls that ended, by outcome.",
    attributes=(Attribute.OUTCOME,),
)
COST: Final = Metric(
    name="durable_llm.cost",
    kind="counter",
    unit="{USD}",
    about="What attempts have cost, as far as it is known.",
    attributes=(Attribute.MODEL,),
)
UNFINISHED_CALLS: Final = Metric(
    name="durable_llm.unfinished_calls",
    kind="gauge",
    unit="{call}",
    about="Calls of the worker's task queue that have not ended; every worker with an HTTP port counts all of them.",
    attributes=(Attribute.OUTCOME,),
)
METRICS: Final = (DURATION, TOKENS, ATTEMPTS, CALLS, COST, UNFINISHED_CALLS)
