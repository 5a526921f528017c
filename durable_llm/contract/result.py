"""What a call returns."""

import json
from datetime import datetime
from typing import Any, Final

from pydantic import Field

from durable_llm.contract.categories import CallOutcome
from durable_llm.contract.ledger import Ledger, Usage
from durable_llm.contract.names import FIRST_SCHEMA_VERSION
from durable_llm.contract.wire import Wire

PARSED_CALL: Final = "call_parsed_"
"""How the ids begin of tool calls that a parser found in a text: no provider knows of them."""

_STORED_RESPONSE: Final = "resp_"
"""How the ids begin that a later call may go on from."""


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
    provider_specific_fields: dict[str, Any] | None = None
    """What only its own provider understands: Gemini's `thought_signature`."""


class Choice(Wire):
    """One of a model's answers."""

    text: str | None = None
    tool_calls: list[ToolCall] = Field(default_factory=list)
    finish_reason: str | None = None
    logprobs: dict[str, Any] | None = None
    """In OpenAI's shape."""
    reasoning_content: str | None = None
    """The reasoning as text, where the provider shows it."""
    thinking_blocks: list[dict[str, Any]] = Field(default_factory=list)
    """The reasoning in Anthropic's blocks, signed where the provider signs; sent back as they are."""
    provider_specific_fields: dict[str, Any] | None = None
    """What only its own provider understands: Gemini's `thought_signatures`, OpenRouter's `reasoning_details`."""

    @property
    def logprob_sum(self) -> float | None:
        """Sum of the tokens' log probabilities; None without any."""
        tokens = (self.logprobs or {}).get("content")
        return sum(token["logprob"] for token in tokens) if tokens else None


class Answer(Wire):
    """What one attempt brought back."""

    choices: list[Choice] = Field(default_factory=list)
    model: str | None = None
    """The model that answered, as the provider names it."""
    provider: str | None = None
    """litellm's name of the provider that answered."""
    system_fingerprint: str | None = None
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
    """Whether the worker cut something because Temporal would not store it whole: texts, tool arguments, choices."""


class LLMResult(Ledger):
    """A call's answer, what it cost, and the ledger of how it was obtained."""

    schema_version: int = FIRST_SCHEMA_VERSION
    policy_version: int = 0
    choices: list[Choice] = Field(default_factory=list)
    parsed: Any = None
    """The instance of `response_format` where that was a pydantic type, the JSON value where it was a schema."""
    model: str | None = None
    """The model that answered, as the provider names it."""
    spec_index: int = 0
    """Index in the chain of the model that answered."""
    provider: str | None = None
    """litellm's name of the provider that answered."""
    system_fingerprint: str | None = None
    """The provider's name of the configuration that answered; with a seed, the same one answers alike."""
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

    @property
    def reasoning_content(self) -> str | None:
        """Reasoning of the first choice."""
        return self.choices[0].reasoning_content if self.choices else None

    def message(self, index: int = 0) -> dict[str, Any]:
        """A choice as the assistant's message for the next call's `messages`, whichever model that asks.

        In OpenAI's shape, with what its own provider needs to go on; what another provider would refuse is left out
        when it is asked.

        Raises:
            IndexError: there is no such choice.
        """
        choice = self.choices[index]
        extras = {
            "tool_calls": [call.model_dump(exclude_none=True) for call in choice.tool_calls],
            "reasoning_content": choice.reasoning_content,
            "thinking_blocks": choice.thinking_blocks,
            "provider_specific_fields": choice.provider_specific_fields,
            "response_id": self.response_id if self._goes_on_from(choice) else None,
            "provider": self.provider,
            "model": self.model,
        }
        present = {name: value for name, value in extras.items() if value}
        return {"role": "assistant", "content": choice.text, **present}

    def _goes_on_from(self, choice: Choice) -> bool:
        """Whether the stored response holds all that later messages speak of."""
        parsed = any(call.id.startswith(PARSED_CALL) for call in choice.tool_calls)
        return (self.response_id or "").startswith(_STORED_RESPONSE) and not parsed


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
