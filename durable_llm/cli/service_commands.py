"""The commands that set up, run and check the service: `setup`, `worker`, `dev`, `codec-server`, `replay`, ...

A command imports its part of the service when it runs: a caller's installation may lack the packages.
"""

from collections.abc import Callable, Coroutine
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from google.protobuf.duration_pb2 import Duration
from temporalio.api.namespace.v1 import NamespaceConfig
from temporalio.api.workflowservice.v1 import UpdateNamespaceRequest
from temporalio.client import Client

from durable_llm import __version__
from durable_llm.cli.output import Output
from durable_llm.cli.temporal_options import QueueOptions, TemporalOptions
from durable_llm.client.connection import Rpcs
from durable_llm.client.tokens import new_token
from durable_llm.contract import search_attributes
from durable_llm.errors import InvalidRequestError
from durable_llm.rooms import room

_WORKER: Final = ("litellm", "pydantic_settings")
_SERVE: Final = ("prometheus_client", "pydantic_settings", "python_multipart", "starlette", "uvicorn")
_CODEC: Final = ("cryptography", "pydantic_settings", "starlette", "uvicorn")

_Paths = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[PATH]...", help="Exported histories, or directories of them. Without a path: calls on the server."
    ),
]
_Limit = Annotated[int, typer.Option(min=1, help="How many calls to read from the server at most.")]


async def setup(
    temporal: TemporalOptions,
    output: Output,
    retention: Annotated[
        int | None,
        typer.Option(min=1, metavar="DAYS", help="Also set how many days Temporal keeps calls that have ended."),
    ] = None,
) -> None:
    """Register the search attributes in the namespace of TEMPORAL_NAMESPACE. It may be repeated."""
    client = await temporal.client()
    absent = await Rpcs(client).run(_prepare(client, retention), wait=temporal.connect_limit)
    done = f"registered {', '.join(absent)}" if absent else "all search attributes were there"
    kept = f"; keeps ended calls for {retention} days" if retention is not None else ""
    output.give(
        {"namespace": client.namespace, "registered": absent, "retention_days": retention},
        f"namespace {client.namespace!r}: {done}{kept}",
    )


async def _prepare(client: Client, retention: int | None) -> list[str]:
    """Do what is missing. Returns the names of the search attributes that were."""
    absent = await search_attributes.missing(client)
    if absent:
        await search_attributes.register(client)
    if retention is not None:
        kept = Duration()
        kept.FromTimedelta(timedelta(days=retention))
        await client.workflow_service.update_namespace(
            UpdateNamespaceRequest(
                namespace=client.namespace, config=NamespaceConfig(workflow_execution_retention_ttl=kept)
            )
        )
    return absent


def version(output: Output) -> None:
    """Print the version."""
    output.give({"version": __version__}, __version__)


def worker() -> Coroutine[Any, Any, None]:
    """Run a worker until SIGTERM or Ctrl-C. Its settings are DURABLE_LLM_* variables."""
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
    """Decrypt payloads for the Temporal UI until SIGTERM or Ctrl-C. Its settings are DURABLE_LLM_CODEC_* variables."""
    _require("the codec server", "codec", _CODEC)
    run: Callable[..., Coroutine[Any, Any, None]] = room("workers.codec.server").run_codec_server
    return run(_say)


def serve(queue: QueueOptions, temporal: TemporalOptions) -> Coroutine[Any, Any, None]:
    """Serve OpenAI's API until SIGTERM or Ctrl-C. Its settings are DURABLE_LLM_FRONT_* variables."""
    _require("the front", "serve", _SERVE)
    run: Callable[..., Coroutine[Any, Any, None]] = room("workers.front.server").run_front
    return run(queue.dispatcher(temporal), _say)


def token(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Whose calls the token makes.")],
    file: Annotated[Path, typer.Option(help="File of tokens; it gets the token's hash.")],
    output: Output,
    chain: Annotated[
        list[str] | None, typer.Option(help="Chain that the token may use; repeat it. Without: all.", metavar="NAME")
    ] = None,
    max_open: Annotated[
        int | None, typer.Option(min=1, help="Requests that the token may have open at once, on each front.")
    ] = None,
) -> None:
    """Make a token for the front, print it once, and add its hash to a file."""
    made = new_token(file, tenant, chain or (), max_open)
    output.give({"token": made, "tenant": tenant}, made)


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
    """Replay recorded calls with this code. The exit code is 1 when a call takes another path."""
    run: Callable[..., Coroutine[Any, Any, int]] = room("workers.recorded.replay").run_replay
    return run(paths or [], query, limit, as_json=output.as_json)


def reclassify(
    output: Output,
    paths: _Paths = None,
    query: Annotated[str | None, typer.Option(help="Which calls: 'LLMOutcome=\"exhausted\"'.")] = None,
    limit: _Limit = 1000,
) -> Coroutine[Any, Any, int]:
    """Show where the policy of this version decides otherwise than in recorded calls."""
    run: Callable[..., Coroutine[Any, Any, int]] = room("workers.recorded.reclassify").run_reclassify
    return run(paths or [], query, limit, as_json=output.as_json)


def _require(what: str, extras: str, packages: tuple[str, ...]) -> None:
    """Check that the packages of an extra are installed.

    Raises:
        InvalidRequestError: one is missing; the text says what to install.
    """
    absent = [name for name in packages if find_spec(name) is None]
    if absent:
        raise InvalidRequestError(f"{what} needs {' and '.join(absent)}: pip install 'durable-llm[{extras}]'")


def _say(line: str) -> None:
    """Print a line at once, even to a pipe."""
    print(line, flush=True)  # noqa: T201  # a plain line, whatever the terminal's width
