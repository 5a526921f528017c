"""OpenAI's chat completions: a request's body to a call, and a call's result to a response's body.

The shapes are those of https://platform.openai.com/docs/api-reference/chat.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from durable_llm.client.new_call import CallOptions, to_config
from durable_llm.client.prompt import Messages
from durable_llm.contract.config import LLMConfig
from durable_llm.contract.ledger import Usage
from durable_llm.contract.result import Choice, LLMResult
from durable_llm.contract.wire import describe_validation_error
from durable_llm.errors import (
    AllModelsExhaustedError,
    BudgetExceededError,
    CallCancelledError,
    CallConflictError,
    CallNotFoundError,
    CallTerminatedError,
    DeadlineExceededError,
    DispatcherUnavailableError,
    DurableLLMError,
    InvalidRequestError,
    RequestRejectedError,
)

_OPTIONS: Final = ("tools", "tool_choice", "response_format", "metadata")
"""Fields of the body that are options of a call. All others but those below are parameters of the model."""

_OTHERS: Final = ("model", "messages", "stream", "stream_options")


@dataclass(frozen=True)
class ChatRequest:
    """What the body of a chat completion asks.

    Attributes:
        model: The model that it names, "" if it names none.
        messages: The chat.
        options: Options of `submit`.
        parameters: Parameters of the model, for a spec's `extra_params`.
        stream: Whether the answer is wanted while it is written.
        wants_usage: Whether a stream ends with a piece for the usage.
    """

    model: str
    messages: Messages
    options: CallOptions
    parameters: dict[str, Any]
    stream: bool
    wants_usage: bool

    def chain(self, models: LLMConfig) -> LLMConfig:
        """`models`, asked with the parameters of the body.

        Raises:
            InvalidRequestError: a parameter is refused; names it.
        """
        try:
            return to_config(models.with_extra_params(**self.parameters) if self.parameters else models)
        except ValidationError as error:
            raise InvalidRequestError(f"body: {describe_validation_error(error)}") from None


def read_chat_request(body: object) -> ChatRequest:
    """What `body` asks. The parts themselves are checked when the call is made.

    Raises:
        InvalidRequestError: it is no chat request; names the field.
    """
    if not isinstance(body, Mapping):
        raise InvalidRequestError("body: expected a JSON object")
    if "messages" not in body:
        raise InvalidRequestError("body: no 'messages'")
    model = body.get("model") or ""
    if not isinstance(model, str):
        raise InvalidRequestError("body: 'model' is a name")
    options: Any = {name: body[name] for name in _OPTIONS if body.get(name) is not None}
    parameters = {
        name: value for name, value in body.items() if name not in (*_OPTIONS, *_OTHERS) and value is not None
    }
    return ChatRequest(model, body["messages"], options, parameters, bool(body.get("stream")), _wants_usage(body))


def _wants_usage(body: Mapping[str, Any]) -> bool:
    options = body.get("stream_options")
    return isinstance(options, Mapping) and bool(options.get("include_usage"))


_STATUS: Final[Mapping[type[DurableLLMError], int]] = {
    InvalidRequestError: 400,
    RequestRejectedError: 400,
    BudgetExceededError: 402,
    CallNotFoundError: 404,
    CallConflictError: 409,
    CallCancelledError: 409,
    CallTerminatedError: 409,
    DeadlineExceededError: 504,
    DispatcherUnavailableError: 503,
    AllModelsExhaustedError: 503,
}


def chat_error(error: DurableLLMError) -> tuple[int, dict[str, Any]]:
    """An error as an HTTP status and a body of OpenAI's shape."""
    status = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 500)
    described = {"message": error.message, "type": type(error).__name__, "code": None, "param": None}
    return status, {"error": {**described, "call_id": error.call_id}}


def chat_chunk(
    completion: Mapping[str, Any], delta: Mapping[str, Any], *, index: int = 0, finish_reason: str | None = None
) -> dict[str, Any]:
    """A piece of a streamed completion.

    Args:
        completion: What is known of the completion: `id`, `created` and `model`.
        delta: What is new of the message.
        index: Of the choice.
        finish_reason: Why the choice ends, in its last piece.
    """
    choice = {"index": index, "delta": dict(delta), "logprobs": None, "finish_reason": finish_reason}
    known = {name: completion[name] for name in ("id", "created", "model")}
    return {**known, "object": "chat.completion.chunk", "choices": [choice]}


def completion_of(result: LLMResult, completion_id: str) -> dict[str, Any]:
    """A result as the body of a `chat.completion`, created when the answering attempt began.

    Args:
        result: The call's result.
        completion_id: The body's `id`.
    """
    last = result.attempts[-1] if result.attempts else None
    created = int(last.started_at.timestamp()) if last and last.started_at else 0
    return {
        "id": completion_id,
        "object": "chat.completion",
        "created": created,
        "model": result.model,
        "choices": [_choice(index, choice) for index, choice in enumerate(result.choices)],
        "usage": _usage(result.usage) if result.usage else None,
        "system_fingerprint": result.system_fingerprint,
    }


def _choice(index: int, choice: Choice) -> dict[str, Any]:
    calls = [
        {"id": call.id, "type": call.type, "function": call.function.model_dump(include={"name", "arguments"})}
        for call in choice.tool_calls
    ]
    message = {
        "role": "assistant",
        "content": choice.text,
        "refusal": None,
        **({"tool_calls": calls} if calls else {}),
        **({"reasoning_content": choice.reasoning_content} if choice.reasoning_content else {}),
    }
    return {"index": index, "message": message, "logprobs": choice.logprobs, "finish_reason": choice.finish_reason}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens},
    }
