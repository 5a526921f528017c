"""The development stack: Temporal with its UI and a worker, in one terminal.

Nothing is restarted: when one part ends, the stack names it and ends too. So the developer sees what happened.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NoReturn

from rich.console import Console

from durable_llm.contract.names import TASK_QUEUE
from durable_llm.store import STORE_VARIABLE
from durable_llm.streams import STREAMS_VARIABLE

from ..codec.settings import DEFAULT_PORT as DEFAULT_CODEC_PORT
from .children import Child, StackError, cancelled_by_signals
from .codec import DevCodec, plan_codec, running_codec
from .server import DEFAULT_DATA, DEFAULT_PORT, DEFAULT_UI_PORT, DevServer, ServerOptions

WORKER_COMMAND: Final = (sys.executable, "-m", "durable_llm.cli", "worker")
WORKER_READY: Final = "worker ready"
"""Start of the line that a worker prints when it polls."""

WORKER_GRACE_S: Final = 45.0
"""Seconds that the worker gets to drain: more than it takes by default. A second Ctrl-C kills it."""

_LOOPBACK_HOSTS: Final = "127.0.0.1,localhost,[::1]"
_BESIDE: Final = {STORE_VARIABLE: "prompts", STREAMS_VARIABLE: "streams"}
"""Directories beside the server's data, by the variable that names another place."""


async def run_dev(
    *,
    port: int = DEFAULT_PORT,
    ui_port: int | None = DEFAULT_UI_PORT,
    data: Path | None = DEFAULT_DATA,
    codec_port: int = DEFAULT_CODEC_PORT,
    worker_command: Sequence[str] = WORKER_COMMAND,
) -> int:
    """Run the server and one worker until a signal, or until one of them ends.

    Args:
        port: Temporal's gRPC port. 0: a free one.
        ui_port: The UI's port. 0: a free one. None: no UI.
        data: The database file. None: in memory.
        codec_port: The codec server's port, used if encryption keys are set. 0: a free one.
        worker_command: The worker's command line.

    Returns:
        The exit code: 0 after a signal, 1 if a part did not start or ended by itself.
    """
    console = Console(highlight=False, soft_wrap=True)
    with cancelled_by_signals() as signals:
        try:
            codec = plan_codec(os.environ, port=codec_port, beside=data or DEFAULT_DATA)
            options = ServerOptions(port=port, ui_port=ui_port, data=data, ui_codec=codec.address if codec else None)
            await _run(options, codec, worker_command, console)
        except StackError as error:
            console.print(str(error), style="red", markup=False)
            return 1
        except asyncio.CancelledError:
            if not signals:
                raise
            console.print("stopped")
            return 0


async def _run(
    options: ServerOptions, codec: DevCodec | None, worker_command: Sequence[str], console: Console
) -> NoReturn:
    """Run until one of the parts ends.

    Raises:
        StackError: a part ended; names it.
    """
    async with DevServer(options) as server, running_codec(codec, server.ui_url) as codec_server:
        ready = asyncio.Event()
        worker = await Child.start(
            "the worker", worker_command, env=_worker_env(server), on_line=_relay(console, ready)
        )
        say_ready = asyncio.create_task(_announce(ready, server, codec, console))
        try:
            raise StackError(await _first_end([server.child, worker, *codec_server]))
        except asyncio.CancelledError:
            console.print("stopping the worker, then the Temporal server ...")
            raise
        finally:
            say_ready.cancel()
            await worker.stop(WORKER_GRACE_S)


async def _first_end(parts: Sequence[Child]) -> str:
    """Wait for the first of `parts` to end. Returns a message about it."""
    watches = [asyncio.create_task(_ended(part)) for part in parts]
    try:
        done, _ = await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for watch in watches:
            watch.cancel()


async def _ended(part: Child) -> str:
    """Wait for `part` to end. Returns a message with its last lines, unless they were printed already."""
    code = await part.wait()
    lines = "" if part.name == "the worker" else f":\n{part.last_lines}"
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return f"{part.name} (pid {part.pid}) {how}{lines}"


def _worker_env(server: DevServer) -> dict[str, str | None]:
    """The worker's environment: this server, loopback as an allowed address, a store, and a place for streams."""
    hosts = os.environ.get("DURABLE_LLM_API_BASE_HOSTS", _LOOPBACK_HOSTS)
    return {
        **server.env,
        "DURABLE_LLM_API_BASE_HOSTS": hosts,
        STORE_VARIABLE: _place(server, STORE_VARIABLE),
        STREAMS_VARIABLE: _place(server, STREAMS_VARIABLE),
    }


def _place(server: DevServer, variable: str) -> str | None:
    """The place that a variable names: the developer's, or a directory beside the server's data."""
    beside = server.data.absolute().with_name(_BESIDE[variable]).as_uri() if server.data else None
    return os.environ.get(variable) or beside


def _named(server: DevServer, variable: str) -> str | None:
    """The setting for clients; None if there is no place."""
    place = _place(server, variable)
    return f"{variable}={place}" if place else None


def _relay(console: Console, ready: asyncio.Event) -> Callable[[str], None]:
    def on_line(line: str) -> None:
        console.print(line, markup=False)
        if line.startswith(WORKER_READY):
            ready.set()

    return on_line


async def _announce(ready: asyncio.Event, server: DevServer, codec: DevCodec | None, console: Console) -> None:
    """Print all addresses once the worker is ready."""
    await ready.wait()
    for label, value in {
        "Temporal": server.address,
        "UI": server.ui_url or "none",
        **({"codec server": codec.how_to_log_in} if codec else {}),
        "task queue": os.environ.get("DURABLE_LLM_TASK_QUEUE", TASK_QUEUE),
        "data": str(server.data) if server.data else "in memory, lost at the end",
        "streams": _named(server, STREAMS_VARIABLE) or "in Temporal",
        "store": _named(server, STORE_VARIABLE) or "none, prompts above 1.9 MB are refused",
        "make a call": _example_call(server.address),
        "stop": "Ctrl-C",
    }.items():
        console.print(f"  [bold]{label:<12}[/bold] {value}")


def _example_call(address: str) -> str:
    program = Path(sys.executable).with_name("durable-llm")
    shown = program.relative_to(Path.cwd()) if program.is_relative_to(Path.cwd()) else program
    return f"TEMPORAL_ADDRESS={address} {shown} call -m openai/gpt-4o-mini 'Name a prime.'"
