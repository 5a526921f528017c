"""The program: its commands, and the one way out of it.

It leaves by `os._exit` after flushing: the SDK's threads can abort an interpreter at its own exit, after all work is
done. So nothing may be left to the interpreter, least of all the report of an unexpected exception.
"""

import asyncio
import inspect
import io
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from itertools import takewhile
from typing import Any, Final, NoReturn

import typer

from durable_llm.cli.asking import call, result, submit
from durable_llm.cli.exits import EPILOG, Exit
from durable_llm.cli.groups import grouped
from durable_llm.cli.looking import cancel, list_calls, show
from durable_llm.cli.report import report
from durable_llm.cli.running import PASS_ON, codec_server, dev, sweep_store, worker
from durable_llm.cli.setting_up import setup, version

COMMANDS: Final[dict[str, Callable[..., Any]]] = {
    "call": call,
    "submit": submit,
    "result": result,
    "show": show,
    "list": list_calls,
    "cancel": cancel,
    "setup": setup,
    "version": version,
}

app = typer.Typer(
    help="Durable LLM calls on Temporal. The server is named by TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, ...",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name, _command in COMMANDS.items():
    app.command(_name, epilog=EPILOG)(grouped(_command))
for _service in (worker, dev, codec_server, sweep_store):
    app.command(epilog=EPILOG, context_settings=PASS_ON)(_service)


def main() -> NoReturn:
    """Entry point of the `durable-llm` program."""
    status: int = Exit.INTERNAL
    try:
        _never_fail_to_print()
        status = _run(sys.argv[1:])
    except BaseException as error:
        status = report(error, as_json=_wants_json(sys.argv[1:]))
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # whoever read it has gone
                stream.flush()
        os._exit(status)


def _run(arguments: Sequence[str]) -> int:
    ended = app(arguments, prog_name="durable-llm", standalone_mode=False)
    if inspect.iscoroutine(ended):
        ended = asyncio.run(_until_told_to_stop(ended))
    return ended or Exit.OK


async def _until_told_to_stop(program: Coroutine[Any, Any, int | None]) -> int | None:
    """Run `program`; a supervisor's SIGTERM cancels it as Ctrl-C does, so that nothing is left behind unsaid."""
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(program)
    with suppress(NotImplementedError):  # Windows
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def _wants_json(arguments: Sequence[str]) -> bool:
    """Whether --json was given; asked of the words themselves, since what failed may be their parsing."""
    return "--json" in takewhile(lambda word: word != "--", arguments)


def _never_fail_to_print() -> None:
    """A terminal that cannot show a character gets its escape instead of a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
