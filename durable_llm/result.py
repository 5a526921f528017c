"""What a call returns."""

import json
from datetime import datetime
from typing import Any

from pydantic import Field

from durable_llm.attempt import Ledger, Usage
from durable_llm.categories import CallOutcome
from durable_llm.names import SCHEMA_VERSION
from durable_llm.wire import Wire


class FunctionCall(Wire):
    """The function that a model wants called."""

    name: str = ""
    arguments: str = ""
    """JSON text, as the model wrote it; checked to be a JSON object."""

    def parsed_arguments(self) -> dict[str, Any]:
        """The arguments as a dict; {} when the model wrote none."""
        parsed: dict[str, Any] = json.loads(self.arguments or "{}")
        return parsed


class ToolCall(Wire):
    """A tool call in OpenAI's shape."""

    id: str = ""
    type: str = "function"
    function: FunctionCall = Field(default_factory=FunctionCall)


class Choice(Wire):
    """One of a model's answers."""

    text: str | None = None
    tool_calls: list[ToolCall] = Field(default_factory=list)
    finish_reason: str | None = None
    logprobs: dict[str, Any] | None = None
    """In OpenAI's shape."""


class Answer(Wire):
    """What one attempt brought back."""

    choices: list[Choice] = Field(default_factory=list)
    model: str | None = None
    """The model that answered, as the provider names it."""
    reasoning_content: str | None = None
    usage: Usage | None = None
    cost: float | None = None
    """USD; None when unknown, never 0.0 for unknown."""
    response_id: str | None = None
    request_id: str | None = None
    http_status: int | None = None
    duration_s: float | None = None
    structured: bool = False
    """Whether the texts are the JSON that was asked for, and were checked to be."""
    truncated: bool = False
    """Whether the worker cut the text because Temporal would not store it whole."""


class LLMResult(Ledger):
    """A call's answer, what it cost, and the ledger of how it was obtained."""

    schema_version: int = SCHEMA_VERSION
    policy_version: int = 0
    choices: list[Choice] = Field(default_factory=list)
    parsed: Any = None
    """The instance of `response_format` where that was a pydantic type, the JSON value where it was a schema."""
    model: str | None = None
    """The model that answered, as the provider names it."""
    spec_index: int = 0
    """Index in the chain of the model that answered."""
    reasoning_content: str | None = None
    usage: Usage | None = None
    cost: float | None = None
    """USD of the answer; None when unknown."""
    response_id: str | None = None
    structured: bool = False
    """Whether `text` is the JSON that was asked for, and was checked to be."""
    truncated: bool = False

    @property
    def text(self) -> str | None:
        """Text of the first choice."""
        return self.choices[0].text if self.choices else None

    @property
    def tool_calls(self) -> list[ToolCall]:
        """Tool calls of the first choice."""
        return self.choices[0].tool_calls if self.choices else []

    @property
    def finish_reason(self) -> str | None:
        """Finish reason of the first choice."""
        return self.choices[0].finish_reason if self.choices else None


class CallFailure(Ledger):
    """Details of the failure that ends a call without an answer."""

    policy_version: int = 0
    last_error: str | None = None
    answer: Answer | None = None
    """A paid answer that nobody could judge."""


class CallStatus(Wire):
    """Where a call stands now."""

    call_id: str = ""
    outcome: CallOutcome | str | None = None
    """None when an operator or the server ended the call by force."""
    attempts: int = 0
    model: str | None = None
    """The model asked now or last."""
    activity: str = ""
    """What the call is doing, in words: "attempt 2 of openai/gpt-4o-mini", "waiting 12 s: rate_limited"."""
    next_attempt_at: datetime | None = None
    """When the present wait ends; None when it is not waiting."""
    workers: bool | None = None
    """Whether a worker polls the call's task queue; None when nobody asked."""
