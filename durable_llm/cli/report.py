"""The report of what went wrong: a line and a ledger for people on stderr, an object for scripts on stdout.

Nothing recognisable as a key is repeated, not even from a word that Typer could not parse.
"""

import asyncio
import sys
import traceback
from typing import Any

import typer

from durable_llm.cli.exits import CallInterruptedError, Exit, exit_of
from durable_llm.cli.output import error_console, plain, write_json
from durable_llm.cli.tables import ledger_table
from durable_llm.contract.key_reference import redact_literal_keys
from durable_llm.errors import BrokenValidatorError, DurableLLMError, ResultNotReadyError


def report(error: BaseException, *, as_json: bool) -> int:
    """Say what went wrong.

    Returns:
        The exit code.
    """
    match error:
        case BrokenPipeError() | SystemExit(__context__=BrokenPipeError()):  # Typer makes the latter of the former
            return Exit.READER_GONE
        case SystemExit():  # Typer's completion leaves so
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
    _complain(error.message)
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
    if not error.format_message():  # no command at all: Typer's error is the help itself
        return Exit.USAGE
    if context is not None:
        typer.echo(context.get_usage(), err=True)
    _complain(error.format_message())
    if as_json:
        _write_error("UsageError", error.format_message())
    return Exit.USAGE


def _report_unexpected(error: BaseException, as_json: bool) -> int:
    message = f"{type(error).__name__}: {error}"
    _complain(f"unexpected {message}")
    typer.echo(redact_literal_keys("".join(traceback.format_exception(error))), err=True)
    if as_json:
        _write_error(type(error).__name__, message)
    return Exit.INTERNAL


def _complain(message: str) -> None:
    typer.echo(f"error: {plain(redact_literal_keys(message))}", err=True)


def _write_error(kind: str, message: str, **details: Any) -> None:
    sys.stderr.flush()
    described: dict[str, Any] = {"type": kind, "message": redact_literal_keys(message), "call_id": None, "attempts": []}
    write_json({"error": {**described, **details}})
