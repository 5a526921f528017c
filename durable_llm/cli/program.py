"""The program: its commands, and the one way out of it.

It leaves by `os._exit` after flushing: the SDK's threads can abort an interpreter at its own exit, after all work is
done. So nothing may be left to the interpreter, least of all the report of an unexpected exception.
"""

import asyncio
import inspect
import io
import logging
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
from durable_llm.cli.service_commands import codec_server, dev, reclassify, replay, sweep_store, worker
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
    "worker": worker,
    "dev": dev,
    "codec-server": codec_server,
    "sweep-store": sweep_store,
    "replay": replay,
    "reclassify": reclassify,
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


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry point of the `durable-llm` program.

    Args:
        arguments: The words after the program's name; None: those that it was started with.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    status: int = Exit.INTERNAL
    try:
        _never_fail_to_print()
        status = _run(arguments)
    except BaseException as error:
        status = report(error, as_json=_wants_json(arguments))
    finally:
        logging.shutdown()
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
