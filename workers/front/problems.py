"""Errors as problems of HTTP."""

from typing import Final

from durable_llm.client.openai_chat import chat_error
from durable_llm.errors import (
    CALL_ENDINGS,
    CallCancelledError,
    CallConflictError,
    CallTerminatedError,
    DispatcherUnavailableError,
    DurableLLMError,
)

from .access import RefusedError
from .wires.wire import Problem

STOPS: Final = "the server stops; send the request again"

_FINAL: Final = (*CALL_ENDINGS.values(), CallCancelledError, CallTerminatedError, CallConflictError)
"""Errors that the same request would meet again: a client that retries would multiply a call's attempts."""


def problem_of(error: RefusedError | DurableLLMError) -> Problem:
    """What a client is told of an error."""
    if isinstance(error, RefusedError):
        return Problem(error.status, error.message, code=error.code, retry_after_s=error.retry_after_s)
    status, body = chat_error(error)
    return Problem(
        status, error.message, body["error"]["type"], call_id=error.call_id, ended=isinstance(error, _FINAL),
        param=", ".join(error.differing) if isinstance(error, CallConflictError) else None,
        retry_after_s=1 if isinstance(error, DispatcherUnavailableError) else None,
    )  # fmt: skip
