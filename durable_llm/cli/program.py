"""The program `durable-llm`: its commands, and its one exit.

It flushes and calls `os._exit`, because the SDK's threads can abort an interpreter at its own exit. So the program
itself reports every error, an unexpected one too.
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

from durable_llm.cli.batch_command import batch
from durable_llm.cli.call_commands import call, cancel, list_calls, result, show, submit
from durable_llm.cli.control_commands import end, extend, hold, holds, pause, release, replace, resume, retry, skip
from durable_llm.cli.embed_command import embed
from durable_llm.cli.exits import EPILOG, Exit, report
from durable_llm.cli.option_groups import grouped
from durable_llm.cli.service_commands import (
    codec_server,
    dev,
    reclassify,
    replay,
    serve,
    setup,
    sweep_store,
    token,
    version,
    worker,
)
from durable_llm.cli.spending_commands import budget, cost, job
from durable_llm.cli.watch_commands import open_call, stats, watch

COMMANDS: Final[dict[str, Callable[..., Any]]] = {
    "call": call,
    "submit": submit,
    "embed": embed,
    "batch": batch,
    "result": result,
    "show": show,
    "list": list_calls,
    "cancel": cancel,
    "watch": watch,
    "stats": stats,
    "open": open_call,
    "retry": retry,
    "skip": skip,
    "replace": replace,
    "pause": pause,
    "resume": resume,
    "extend": extend,
    "end": end,
    "hold": hold,
    "release": release,
    "holds": holds,
    "job": job,
    "cost": cost,
    "budget": budget,
    "setup": setup,
    "version": version,
    "worker": worker,
    "serve": serve,
    "token": token,
    "dev": dev,
    "codec-server": codec_server,
    "sweep-store": sweep_store,
    "replay": replay,
    "reclassify": reclassify,
}

app = typer.Typer(
    help="Durable LLM calls on Temporal. TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, ... name the server.",
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
        arguments: The words after the program's name. None: those of the process.
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
            with suppress(OSError, ValueError):  # its reader has ended
                stream.flush()
        os._exit(status)


def _run(arguments: Sequence[str]) -> int:
    ended = app(arguments, prog_name="durable-llm", standalone_mode=False)
    if inspect.iscoroutine(ended):
        ended = asyncio.run(_until_told_to_stop(ended))
    return ended or Exit.OK


async def _until_told_to_stop(program: Coroutine[Any, Any, int | None]) -> int | None:
    """Run `program`. SIGTERM cancels it as Ctrl-C does."""
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(program)
    with suppress(NotImplementedError):  # Windows
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def _wants_json(arguments: Sequence[str]) -> bool:
    """Whether --json was given. It reads the words itself, because their parsing may have failed."""
    return "--json" in takewhile(lambda word: word != "--", arguments)


def _never_fail_to_print() -> None:
    """Print an escape where the terminal cannot show a character."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
