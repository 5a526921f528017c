"""A durable dispatcher for LLM calls on Temporal: retries, backoff and fallback with history and replay."""

from durable_llm._version import __version__
from durable_llm.client.dispatcher import Dispatcher
from durable_llm.client.embedding import Embeddings
from durable_llm.client.handle import CallHandle
from durable_llm.client.job import Job
from durable_llm.client.many import MapResult
from durable_llm.client.report import Report
from durable_llm.client.spending import Spending, spent_by
from durable_llm.client.stream import CallStream
from durable_llm.client.stream_events import (
    AttemptStarted,
    AttemptWithdrawn,
    Done,
    ReasoningDelta,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    Waiting,
)
from durable_llm.contract.budgets import Budget, BudgetStatus
from durable_llm.contract.categories import Action, CallOutcome, Category, Outcome
from durable_llm.contract.config import LLMConfig, ModelSpec
from durable_llm.contract.ledger import Attempt, Usage
from durable_llm.contract.policy import Policy
from durable_llm.contract.result import CallStatus, Choice, FunctionCall, LLMResult, ToolCall
from durable_llm.contract.validation import Candidate, Rejected, Validator, tool_call, tool_parser, validator
from durable_llm.encryption.codec import data_converter
from durable_llm.errors import (
    AllModelsExhaustedError,
    BrokenValidatorError,
    BudgetExceededError,
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
    TextsRejectedError,
    UnsupportedRequestError,
)

__all__ = [
    "Action",
    "AllModelsExhaustedError",
    "Attempt",
    "AttemptStarted",
    "AttemptWithdrawn",
    "BrokenValidatorError",
    "Budget",
    "BudgetExceededError",
    "BudgetStatus",
    "CallCancelledError",
    "CallConflictError",
    "CallHandle",
    "CallNotFoundError",
    "CallOutcome",
    "CallStatus",
    "CallStream",
    "CallTerminatedError",
    "Candidate",
    "Category",
    "Choice",
    "DeadlineExceededError",
    "DecryptionError",
    "Dispatcher",
    "DispatcherUnavailableError",
    "Done",
    "DurableLLMError",
    "Embeddings",
    "FunctionCall",
    "InvalidRequestError",
    "Job",
    "LLMConfig",
    "LLMResult",
    "MapResult",
    "ModelSpec",
    "Outcome",
    "Policy",
    "ReasoningDelta",
    "Rejected",
    "Report",
    "RequestRejectedError",
    "ResultNotReadyError",
    "Spending",
    "StreamEvent",
    "TextDelta",
    "TextsRejectedError",
    "ToolCall",
    "ToolCallDelta",
    "UnsupportedRequestError",
    "Usage",
    "Validator",
    "Waiting",
    "__version__",
    "data_converter",
    "spent_by",
    "tool_call",
    "tool_parser",
    "validator",
]
