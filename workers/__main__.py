"""`python -m workers [COMMAND]`: the worker, and the programs around it.

Every command leaves by `os._exit` with its true status: an interpreter that ran the SDK's worker aborts at its own exit
about one time in eight (temporalio sdk-python issue 300), after all work is done.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from durable_llm.errors import DurableLLMError
from durable_llm.service import ServiceError, check_service_modules

from .settings import SettingsError, load_settings
from .telemetry.exporting import exporting

EXIT_USAGE = 2
EXIT_UNAVAILABLE = 3

_Paths = Annotated[
    list[Path] | None, typer.Argument(help="Exported histories, or directories of them; none: ask the server.")
]
_Limit = Annotated[int, typer.Option(min=1, help="Most calls that are read from the server.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

app = typer.Typer(add_completion=False, help="The durable-llm worker and the programs around it.")


@app.callback(invoke_without_command=True)
def worker(context: typer.Context) -> None:
    """Run a worker until SIGTERM or Ctrl-C."""
    _refuse_foreign_modules()
    if context.invoked_subcommand is None:
        _leave(_run_worker())


@app.command()
def dev(
    port: Annotated[int, typer.Option(help="Port of the Temporal server; 0 takes a free one.")] = 7233,
    ui_port: Annotated[int, typer.Option(help="Port of the Temporal UI; 0 takes a free one.")] = 8233,
    data: Annotated[Path, typer.Option(help="File that keeps the server's data.")] = Path(".durable-llm/dev.db"),
    codec_port: Annotated[
        int, typer.Option(help="Port of the codec server, where encryption keys are set; 0 takes a free one.")
    ] = 8234,
) -> None:
    """Run the embedded Temporal server, its UI and a worker until Ctrl-C."""
    from .dev.stack import run_dev  # noqa: PLC0415  # only this command needs it

    _leave(run_dev(port=port, ui_port=ui_port, data=data, codec_port=codec_port))


@app.command()
def codec_server() -> None:
    """Decrypt payloads for Temporal's UI until SIGTERM or Ctrl-C, for who has the token."""
    _leave(_run_codec_server())


@app.command()
def sweep_store(
    keep_days: Annotated[
        int,
        typer.Option(min=1, help="Days to keep a prompt: more than the longest deadline and the retention together."),
    ],
) -> None:
    """Delete what lies in the store of large prompts and was put there too long ago."""
    from .sweep_store import run_sweep  # noqa: PLC0415  # only this command needs it

    _leave(run_sweep(keep_days))


@app.command()
def reclassify(
    paths: _Paths = None,
    query: Annotated[str | None, typer.Option(help="Which calls: 'LLMOutcome=\"exhausted\"'.")] = None,
    limit: _Limit = 1000,
    as_json: _AsJson = False,
) -> None:
    """Show where today's policy would decide otherwise than recorded calls did."""
    from .recorded.reclassify import run_reclassify  # noqa: PLC0415  # as above

    _leave(run_reclassify(paths or [], query, limit, as_json=as_json))


@app.command()
def replay(
    paths: _Paths = None,
    query: Annotated[str | None, typer.Option(help="Which calls: 'ExecutionStatus=\"Running\"'.")] = None,
    limit: _Limit = 1000,
    as_json: _AsJson = False,
) -> None:
    """Run recorded calls again with this code: status 1 when one would take another path."""
    from .recorded.replay import run_replay  # noqa: PLC0415  # as above

    _leave(run_replay(paths or [], query, limit, as_json=as_json))


def _refuse_foreign_modules() -> None:
    """Leave with a sentence where an import of `workflows` would lead to somebody else's."""
    try:
        check_service_modules()
    except ServiceError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_USAGE)


async def _run_worker() -> int:
    settings = load_settings()
    _log(settings.log_level)
    from .worker import run_worker  # noqa: PLC0415  # litellm takes seconds to import: settings come first

    with exporting() as plugins:
        await run_worker(settings, announce=lambda line: print(line, flush=True), plugins=plugins)
    return 0


async def _run_codec_server() -> int:
    from .codec.settings import load_codec_settings  # noqa: PLC0415  # only this command needs it

    settings, keys = load_codec_settings()
    _log("INFO")
    from .codec.server import run_codec_server  # noqa: PLC0415  # as above, and settings come first

    return await run_codec_server(settings, keys, announce=lambda line: print(line, flush=True))


def _log(level: str) -> None:
    """Our own and Temporal's records at `level`; the HTTP libraries' debug records would hold prompts."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("durable_llm", "temporalio"):
        logging.getLogger(name).setLevel(level)


def _leave(program: Coroutine[Any, Any, int]) -> NoReturn:
    """Run a program to its end and leave with its status."""
    status = 1
    try:
        status = asyncio.run(program)
    except SettingsError as error:
        status = EXIT_USAGE
        print(f"error: {error}", file=sys.stderr)
    except DurableLLMError as error:
        status = EXIT_UNAVAILABLE
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        status = 130
    except Exception:
        logging.getLogger("durable_llm").exception("the program failed")
    finally:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    app()
