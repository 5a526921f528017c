"""A durable dispatcher for LLM calls on Temporal: retries, backoff and fallback with history and replay."""

from durable_llm._version import __version__
from durable_llm.attempt import Attempt, Usage
from durable_llm.categories import Action, CallOutcome, Category, Outcome
from durable_llm.config import LLMConfig, ModelSpec
from durable_llm.dispatcher import Dispatcher
from durable_llm.encryption import data_converter
from durable_llm.errors import (
    AllModelsExhaustedError,
    BrokenValidatorError,
    CallCancelledError,
    CallConflictError,
    CallNotFoundError,
    CallTerminatedError,
    DeadlineExceededError,
    DecryptionError,
    DispatcherUnavailableError,
    DurableLLMError,
    InvalidRequestError,
    RequestRejectedError,
    ResultNotReadyError,
    UnsupportedRequestError,
)
from durable_llm.handle import CallHandle
from durable_llm.policy import Policy
from durable_llm.result import CallStatus, Choice, FunctionCall, LLMResult, ToolCall
from durable_llm.validation import Validator

__all__ = [
    "Action",
    "AllModelsExhaustedError",
    "Attempt",
    "BrokenValidatorError",
    "CallCancelledError",
    "CallConflictError",
    "CallHandle",
    "CallNotFoundError",
    "CallOutcome",
    "CallStatus",
    "CallTerminatedError",
    "Category",
    "Choice",
    "DeadlineExceededError",
    "DecryptionError",
    "Dispatcher",
    "DispatcherUnavailableError",
    "DurableLLMError",
    "FunctionCall",
    "InvalidRequestError",
    "LLMConfig",
    "LLMResult",
    "ModelSpec",
    "Outcome",
    "Policy",
    "RequestRejectedError",
    "ResultNotReadyError",
    "ToolCall",
    "UnsupportedRequestError",
    "Usage",
    "Validator",
    "__version__",
    "data_converter",
]
