"""What a call returns."""

import json
from datetime import datetime
from typing import Any, Final

from pydantic import Field

from durable_llm.contract.categories import CallOutcome, Outcome
from durable_llm.contract.ledger import Intervention, Ledger, Usage
from durable_llm.contract.names import FIRST_SCHEMA_VERSION
from durable_llm.contract.vectors import Vectors
from durable_llm.contract.wire import Wire

PARSED_CALL: Final = "call_parsed_"
"""Prefix of the ids of tool calls that a parser found in a text; no provider knows these ids."""

_STORED_RESPONSE: Final = "resp_"
"""Prefix of the ids of responses that a later call may continue from."""


class FunctionCall(Wire):
    """The function that a model wants to call."""

    name: str = ""
    arguments: str = ""
    """JSON text as the model wrote it; it was checked to be a JSON object."""

    def parsed_arguments(self) -> dict[str, Any]:
        """The arguments as a dict; {} if the model wrote none."""
        parsed: dict[str, Any] = json.loads(self.arguments or "{}")
        return parsed


class ToolCall(Wire):
    """A tool call in OpenAI's shape."""

    id: str = ""
    type: str = "function"
    function: FunctionCall = Field(default_factory=FunctionCall)
    provider_specific_fields: dict[str, Any] | None = None
    """Fields that only its own provider understands: Gemini's `thought_signature`."""


class Choice(Wire):
    """One of a model's answers."""

    text: str | None = None
    tool_calls: list[ToolCall] = Field(default_factory=list)
    finish_reason: str | None = None
    logprobs: dict[str, Any] | None = None
    """In OpenAI's shape."""
    reasoning_content: str | None = None
    """The reasoning as text, if the provider shows it."""
    thinking_blocks: list[dict[str, Any]] = Field(default_factory=list)
    """The reasoning in Anthropic's blocks, signed if the provider signs; sent back unchanged."""
    provider_specific_fields: dict[str, Any] | None = None
    """Fields that only their provider understands: Gemini's `thought_signatures`, OpenRouter's `reasoning_details`."""

    @property
    def logprob_sum(self) -> float | None:
        """Sum of the tokens' log probabilities; None if there are none."""
        tokens = (self.logprobs or {}).get("content")
        return sum(token["logprob"] for token in tokens) if tokens else None


class _AnswerFields(Wire):
    """What an attempt's answer and a call's result have in common."""

    choices: list[Choice] = Field(default_factory=list)
    vectors: Vectors | None = None
    """The answer of an embedding model."""
    model: str | None = None
    """The model that answered, as the provider names it."""
    provider: str | None = None
    """litellm's name of the provider that answered."""
    system_fingerprint: str | None = None
    """The provider's name of the configuration that answered; with a seed, the same configuration answers alike."""
    usage: Usage | None = None
    cost: float | None = None
    """USD of the answer; None when unknown, never 0.0 for unknown."""
    response_id: str | None = None
    structured: bool = False
    """Whether the texts are JSON that was checked against the requested format."""
    truncated: bool = False
    """Whether the worker cut texts, tool arguments or choices that Temporal would not store whole."""


class Answer(_AnswerFields):
    """What one attempt returned."""

    request_id: str | None = None
    http_status: int | None = None
    duration_s: float | None = None
    quota: str | None = None
    """The quota that the attempt came through."""
    waited_s: float | None = None
    """Seconds that it waited there."""

    def entry_fields(self) -> dict[str, Any]:
        """What the ledger entry of the attempt takes from its answer."""
        return {
            "outcome": Outcome.ANSWERED, "http_status": self.http_status, "duration_s": self.duration_s,
            "request_id": self.request_id, "response_id": self.response_id, "usage": self.usage, "cost": self.cost,
            "quota": self.quota, "waited_s": self.waited_s,
        }  # fmt: skip


class LLMResult(_AnswerFields, Ledger):
    """A call's answer, its cost, and the ledger."""

    schema_version: int = FIRST_SCHEMA_VERSION
    policy_version: int = 0
    parsed: Any = None
    """If `response_format` was a pydantic type, its instance; if it was a schema, the JSON value."""
    spec_index: int = 0
    """Index in the chain of the model that answered."""

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

    @property
    def reasoning_content(self) -> str | None:
        """Reasoning of the first choice."""
        return self.choices[0].reasoning_content if self.choices else None

    def message(self, index: int = 0) -> dict[str, Any]:
        """A choice as the assistant's message for the next call's `messages`, for any model.

        The message has OpenAI's shape and what its own provider needs to continue. When another provider is asked, the
        attempt leaves out what that provider would refuse.

        Raises:
            IndexError: there is no such choice.
        """
        choice = self.choices[index]
        extras = {
            "tool_calls": [call.model_dump(exclude_none=True) for call in choice.tool_calls],
            "reasoning_content": choice.reasoning_content,
            "thinking_blocks": choice.thinking_blocks,
            "provider_specific_fields": choice.provider_specific_fields,
            "response_id": self.response_id if self._continues_from(choice) else None,
            "provider": self.provider,
            "model": self.model,
        }
        present = {name: value for name, value in extras.items() if value}
        return {"role": "assistant", "content": choice.text, **present}

    def _continues_from(self, choice: Choice) -> bool:
        """Whether the stored response holds everything that later messages refer to."""
        parsed = any(call.id.startswith(PARSED_CALL) for call in choice.tool_calls)
        return (self.response_id or "").startswith(_STORED_RESPONSE) and not parsed


class CallFailure(Ledger):
    """Details of the error that ends a call without an answer."""

    policy_version: int = 0
    last_error: str | None = None
    answer: Answer | None = None
    """A paid answer that a broken validator could not check."""


class CallStatus(Wire):
    """What a call is doing now."""

    call_id: str = ""
    outcome: CallOutcome | str | None = None
    """None if an operator or the server terminated the call."""
    attempts: int = 0
    model: str | None = None
    """The model that is asked now, or was asked last."""
    activity: str = ""
    """What the call is doing, in words: "attempt 2 of openai/gpt-4o-mini", "waiting 12 s: rate_limited"."""
    next_attempt_at: datetime | None = None
    """When the current wait ends; None if the call does not wait for a moment."""
    waits: bool = False
    """Whether no request is under way, because the call waits: for time, for money, or for an operator."""
    interventions: list[Intervention] = Field(default_factory=list)
    """What operators told the call, the last 50."""
    workers: bool | None = None
    """Whether a worker polls the call's task queue; None if that was not checked."""
