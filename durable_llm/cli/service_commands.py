"""The commands that run the service and look after it: `worker`, `dev`, `codec-server`, `sweep-store`, `replay`, ...

Nothing of the service is imported until one of them runs: a caller's installation may lack what it needs.
"""

from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from durable_llm.cli.output import Output
from durable_llm.errors import InvalidRequestError
from durable_llm.rooms import room

_WORKER: Final = ("litellm", "pydantic_settings")
_CODEC: Final = ("cryptography", "pydantic_settings", "starlette", "uvicorn")

_Paths = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[PATH]...", help="Exported histories, or directories of them. None: ask the server."),
]
_Limit = Annotated[int, typer.Option(min=1, help="Read at most so many calls from the server.")]


def worker() -> Coroutine[Any, Any, None]:
    """Run a worker until SIGTERM or Ctrl-C; settings are DURABLE_LLM_* variables."""
    _require("the worker", "worker", _WORKER)
    run: Callable[..., Coroutine[Any, Any, None]] = room("workers.worker").run_worker
    return run(_say)


def dev(
    port: Annotated[int, typer.Option(help="Port of the Temporal server; 0 takes a free one.")] = 7233,
    ui_port: Annotated[int, typer.Option(help="Port of the Temporal UI; 0 takes a free one.")] = 8233,
    data: Annotated[Path, typer.Option(help="File that keeps the server's data.")] = Path(".durable-llm/dev.db"),
    codec_port: Annotated[
        int, typer.Option(help="Port of the codec server, where encryption keys are set; 0 takes a free one.")
    ] = 8234,
) -> Coroutine[Any, Any, int]:
    """Run Temporal with its UI and a worker until Ctrl-C."""
    _require("the worker", "worker,dev", _WORKER)
    run: Callable[..., Coroutine[Any, Any, int]] = room("workers.dev.stack").run_dev
    return run(port=port, ui_port=ui_port, data=data, codec_port=codec_port)


def codec_server() -> Coroutine[Any, Any, None]:
    """Decrypt payloads for Temporal's UI until SIGTERM or Ctrl-C; settings are DURABLE_LLM_CODEC_* variables."""
    _require("the codec server", "codec", _CODEC)
    run: Callable[..., Coroutine[Any, Any, None]] = room("workers.codec.server").run_codec_server
    return run(_say)


def sweep_store(
    keep_days: Annotated[
        int,
        typer.Option(min=1, help="Days to keep a prompt: more than the longest deadline and the retention together."),
    ],
) -> Coroutine[Any, Any, None]:
    """Delete old prompts from the store that DURABLE_LLM_STORE names."""
    _require("the worker", "worker", _WORKER)
    run: Callable[..., Coroutine[Any, Any, None]] = room("workers.sweep_store").run_sweep
    return run(keep_days, _say)


def replay(
    output: Output,
    paths: _Paths = None,
    query: Annotated[str | None, typer.Option(help="Which calls: 'ExecutionStatus=\"Running\"'.")] = None,
    limit: _Limit = 1000,
) -> Coroutine[Any, Any, int]:
    """Run recorded calls again with this code; status 1 when one would take another path."""
    run: Callable[..., Coroutine[Any, Any, int]] = room("workers.recorded.replay").run_replay
    return run(paths or [], query, limit, as_json=output.as_json)


def reclassify(
    output: Output,
    paths: _Paths = None,
    query: Annotated[str | None, typer.Option(help="Which calls: 'LLMOutcome=\"exhausted\"'.")] = None,
    limit: _Limit = 1000,
) -> Coroutine[Any, Any, int]:
    """Show where today's policy would decide otherwise than recorded calls did."""
    run: Callable[..., Coroutine[Any, Any, int]] = room("workers.recorded.reclassify").run_reclassify
    return run(paths or [], query, limit, as_json=output.as_json)


def _require(what: str, extras: str, packages: tuple[str, ...]) -> None:
    """Refuse to start without the packages of an extra.

    Raises:
        InvalidRequestError: saying what to install.
    """
    absent = [name for name in packages if find_spec(name) is None]
    if absent:
        raise InvalidRequestError(f"{what} needs {' and '.join(absent)}: pip install 'durable-llm[{extras}]'")


def _say(line: str) -> None:
    """Print a line at once, also where stdout is a pipe."""
    print(line, flush=True)  # noqa: T201  # a plain line, whatever the terminal's width
