"""Exit codes: what a script can tell from the status alone."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from durable_llm.errors import (
    CallConflictError,
    CallNotFoundError,
    DecryptionError,
    DispatcherUnavailableError,
    DurableLLMError,
    InvalidRequestError,
    ResultNotReadyError,
)


class Exit(IntEnum):
    """The statuses that `durable-llm` leaves with."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNAVAILABLE = 3
    NOT_FOUND = 4
    CONFLICT = 5
    NOT_READY = 6
    INTERNAL = 70
    INTERRUPTED = 130
    READER_GONE = 141


MEANING: Final[Mapping[Exit, str]] = {
    Exit.OK: "done",
    Exit.FAILED: "the call failed: exhausted, rejected, past its deadline, cancelled or terminated",
    Exit.USAGE: "wrong usage or an invalid request; nothing was sent",
    Exit.UNAVAILABLE: "Temporal cannot be reached, or its set-up is missing",
    Exit.NOT_FOUND: "there is no such call",
    Exit.CONFLICT: "the id belongs to another request",
    Exit.NOT_READY: "no result within --wait; the call goes on",
    Exit.INTERNAL: "an unexpected error, with its traceback on stderr",
    Exit.INTERRUPTED: "interrupted by Ctrl-C or SIGTERM",
    Exit.READER_GONE: "the program that read the output has gone",
}

EPILOG: Final = "Exit codes: " + "; ".join(f"{code.value} {meaning}" for code, meaning in MEANING.items()) + "."


class CallInterruptedError(DurableLLMError):
    """Ctrl-C or SIGTERM while a call was under way; the text says what became of it."""


_EXIT_OF: Final[Mapping[type[DurableLLMError], Exit]] = {
    InvalidRequestError: Exit.USAGE,
    DispatcherUnavailableError: Exit.UNAVAILABLE,
    DecryptionError: Exit.UNAVAILABLE,
    CallNotFoundError: Exit.NOT_FOUND,
    CallConflictError: Exit.CONFLICT,
    ResultNotReadyError: Exit.NOT_READY,
    CallInterruptedError: Exit.INTERRUPTED,
}


def exit_of(error: DurableLLMError) -> Exit:
    """The exit code of an error. An error that the table does not name is a call that ended without an answer."""
    return next((_EXIT_OF[kind] for kind in type(error).__mro__ if kind in _EXIT_OF), Exit.FAILED)
