"""How the program ends: the exit code that a script reads, and the report of what went wrong.

People get a line and a ledger on stderr, scripts an object on stdout. Nothing that looks like a key is repeated, not
even from a word that Typer could not parse.
"""

import asyncio
import sys
import traceback
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final

import typer

from durable_llm.cli.output import error_console, plain, write_json
from durable_llm.cli.tables import ledger_table
from durable_llm.contract.key_reference import redact_literal_keys
from durable_llm.errors import (
    BrokenValidatorError,
    CallConflictError,
    CallNotFoundError,
    DecryptionError,
    DispatcherUnavailableError,
    DurableLLMError,
    InvalidRequestError,
    ResultNotReadyError,
)


class Exit(IntEnum):
    """The exit codes of `durable-llm`."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNAVAILABLE = 3
    NOT_FOUND = 4
    CONFLICT = 5
    NOT_READY = 6
    RETRYABLE = 7
    INTERNAL = 70
    INTERRUPTED = 130
    READER_GONE = 141


MEANING: Final[Mapping[Exit, str]] = {
    Exit.OK: "done",
    Exit.FAILED: "the call failed: exhausted, rejected, past its deadline, cancelled or terminated; or calls refused "
    "what they were told",
    Exit.USAGE: "wrong usage or an invalid request; nothing was sent",
    Exit.UNAVAILABLE: "Temporal cannot be reached, or is not set up",
    Exit.NOT_FOUND: "there is no such call",
    Exit.CONFLICT: "the id belongs to another request",
    Exit.NOT_READY: "no result within --wait; the call goes on",
    Exit.RETRYABLE: "requests of a batch failed, and some of them may succeed later",
    Exit.INTERNAL: "an unexpected error, with its traceback on stderr",
    Exit.INTERRUPTED: "interrupted by Ctrl-C or SIGTERM",
    Exit.READER_GONE: "the program that read the output has ended",
}

EPILOG: Final = "Exit codes: " + "; ".join(f"{code.value} {meaning}" for code, meaning in MEANING.items()) + "."


class CallInterruptedError(DurableLLMError):
    """Ctrl-C or SIGTERM during a call. The text says what became of the call."""


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
    """The exit code of an error. An error outside the table is a call that ended without an answer."""
    return next((_EXIT_OF[kind] for kind in type(error).__mro__ if kind in _EXIT_OF), Exit.FAILED)


def report(error: BaseException, *, as_json: bool) -> int:
    """Print what went wrong.

    Returns:
        The exit code.
    """
    match error:
        case BrokenPipeError() | SystemExit(__context__=BrokenPipeError()):  # Typer turns the first into the second
            return Exit.READER_GONE
        case SystemExit():  # Typer's completion
            return error.code if isinstance(error.code, int) else Exit.OK
        case DurableLLMError():
            return _report_known(error, as_json)
        case typer.TyperException():
            return _report_usage(error, as_json)
        case KeyboardInterrupt() | asyncio.CancelledError():
            return _report_known(CallInterruptedError("interrupted"), as_json)
        case _:
            return _report_unexpected(error, as_json)


def _report_known(error: DurableLLMError, as_json: bool) -> int:
    if isinstance(error, ResultNotReadyError):
        error.message = f"call {error.call_id!r} has not ended yet; it goes on: durable-llm result {error.call_id}"
    _print_error(error.message)
    if error.attempts and not as_json:
        error_console().print(ledger_table(error.attempts))
    if isinstance(error, BrokenValidatorError) and error.answer is not None and not as_json:
        typer.echo(f"the answer that was paid for:\n{plain(error.answer.text or '')}", err=True)
    if as_json:
        known = {name: value for name in ("last_error", "differing", "answer") if (value := getattr(error, name, None))}
        _write_error(type(error).__name__, error.message, call_id=error.call_id, attempts=error.attempts, **known)
    return exit_of(error)


def _report_usage(error: typer.TyperException, as_json: bool) -> int:
    context = getattr(error, "ctx", None)
    if not error.format_message():  # no command: Typer has printed the help
        return Exit.USAGE
    if context is not None:
        typer.echo(context.get_usage(), err=True)
    _print_error(error.format_message())
    if as_json:
        _write_error("UsageError", error.format_message())
    return Exit.USAGE


def _report_unexpected(error: BaseException, as_json: bool) -> int:
    message = f"{type(error).__name__}: {error}"
    _print_error(f"unexpected {message}")
    typer.echo(redact_literal_keys("".join(traceback.format_exception(error))), err=True)
    if as_json:
        _write_error(type(error).__name__, message)
    return Exit.INTERNAL


def _print_error(message: str) -> None:
    typer.echo(f"error: {plain(redact_literal_keys(message))}", err=True)


def _write_error(kind: str, message: str, **details: Any) -> None:
    sys.stderr.flush()
    described: dict[str, Any] = {"type": kind, "message": redact_literal_keys(message), "call_id": None, "attempts": []}
    write_json({"error": {**described, **details}})
