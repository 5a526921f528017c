"""The embedded Temporal server, for development and the demo.

It is one binary with one database file. The SDK's `WorkflowEnvironment.start_local` starts the same binary, but it does
not do for a stack that people stop with Ctrl-C: its server gets the terminal's SIGINT before the worker has drained, it
outlives a killed parent, and nobody is told when it ends. The values below were measured: the server's defaults are
slow for thousands of short calls.
"""

import asyncio
import fcntl
import json
import os
import shutil
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from temporalio.client import Client
from temporalio.service import RPCError

from durable_llm.contract import search_attributes

from .children import Child, StackError
from .ports import LOOPBACK, claim_port

DEFAULT_PORT: Final = 7233
DEFAULT_UI_PORT: Final = 8233
DEFAULT_DATA: Final = Path(".durable-llm/dev.db")
READY_TIMEOUT_S: Final = 30.0

_DYNAMIC_CONFIG: Final = {
    # The default is 20. The server then polls its own queues so rarely that each call takes 65 ms longer.
    "history.transferProcessorMaxPollRPS": 2000,
    "history.timerProcessorMaxPollRPS": 2000,
    "history.visibilityProcessorMaxPollRPS": 2000,
    # The development server reads the search attributes' names from its database at every request; a cluster does not.
    "system.forceSearchAttributesCacheRefreshOnRead": False,
    # Timers are looked at once a second by default: a wait of 20 ms takes 1,005 ms instead of 32.
    "history.timerProcessorMaxTimeShift": "10ms",
    # The server divides a queue's rate among the queue's partitions, four by default, and keeps order in each alone.
    "matching.numTaskqueueReadPartitions": 1,
    "matching.numTaskqueueWritePartitions": 1,
    "matching.enableFairness": True,
}


# With SQLite's defaults a call takes 46 ms instead of 26, at half the rate. These values lose the last moments if the
# machine crashes, and nothing otherwise.
_SQLITE: Final = {"journal_mode": "WAL", "synchronous": "NORMAL"}


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Ports and data of the server."""

    port: int = DEFAULT_PORT
    """gRPC port on loopback. 0: a free one."""
    ui_port: int | None = DEFAULT_UI_PORT
    """Port of the web UI. 0: a free one. None: no UI."""
    data: Path | None = DEFAULT_DATA
    """The database file, created if it is missing. None: in memory."""
    ui_codec: str | None = None
    """Address of the codec server for the UI."""
    long_polls: int = 20_000
    """Long polls of a namespace at once. Temporal's default is 1,200; it refuses those beyond."""


class DevServer:
    """The embedded server while the context lasts.

    Attributes:
        address: HOST:PORT for TEMPORAL_ADDRESS.
        ui_url: Address of the web UI, None without one.
        data: The database file, None for memory.
        child: The server's process.

    Raises:
        StackError: on entering: no binary, a port or the database in use, or no answer within READY_TIMEOUT_S.
    """

    address: str
    ui_url: str | None
    child: Child

    def __init__(self, options: ServerOptions | None = None) -> None:
        self._options = options or ServerOptions()
        self._lock: IO[str] | None = None
        self.data = self._options.data

    async def __aenter__(self) -> Self:
        binary = find_temporal()
        port = claim_port(self._options.port, used_for="Temporal", option="--port")
        ui_port = self._options.ui_port
        if ui_port is not None:
            ui_port = claim_port(ui_port, used_for="Temporal's UI", option="--ui-port")
        self.address = f"{LOOPBACK}:{port}"
        self.ui_url = f"http://{LOOPBACK}:{ui_port}" if ui_port is not None else None
        self._lock = _lock_data(self.data) if self.data is not None else None
        self.child = await Child.start("the Temporal server", [binary, *_arguments(port, ui_port, self._options)])
        try:
            await _ready(self.address, self.child)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    @property
    def env(self) -> dict[str, str | None]:
        """Environment changes for programs that use this server instead of the developer's own."""
        others = dict.fromkeys(name for name in os.environ if name.startswith("TEMPORAL_"))
        ours = {"TEMPORAL_ADDRESS": self.address, "TEMPORAL_NAMESPACE": "default", "TEMPORAL_CONFIG_FILE": os.devnull}
        return {**others, **ours}

    async def _close(self) -> None:
        await self.child.stop()
        if self._lock is not None:
            self._lock.close()


def find_temporal() -> str:
    """Path of the `temporal` binary: the one on PATH, or the one that pip installed beside this Python.

    Raises:
        StackError: it is missing; says what to install.
    """
    found = shutil.which("temporal") or shutil.which("temporal", path=sysconfig.get_path("scripts"))
    if found is None:
        raise StackError(
            "found no 'temporal' program on PATH or beside this Python; install it with "
            "pip install 'durable-llm[dev]', or the Temporal CLI from https://docs.temporal.io/cli"
        )
    return found


def _arguments(port: int, ui_port: int | None, options: ServerOptions) -> list[str]:
    ui = ["--headless"] if ui_port is None else ["--ui-port", str(ui_port), "--ui-disable-news-fetch"]
    ui += ["--ui-codec-endpoint", options.ui_codec] if options.ui_codec else []
    dynamic = {**_DYNAMIC_CONFIG, "frontend.namespaceCount": options.long_polls}
    attributes = (f"{key.name}={key.indexed_value_type.name.title()}" for key in search_attributes.ALL)
    return [
        *("server", "start-dev", "--ip", LOOPBACK, "--port", str(port), "--log-level", "warn", *ui),
        *(_database(options.data) if options.data is not None else []),
        *(flag for attribute in attributes for flag in ("--search-attribute", attribute)),
        *(
            flag
            for name, value in dynamic.items()
            for flag in ("--dynamic-config-value", f"{name}={json.dumps(value)}")
        ),
    ]


def _database(data: Path) -> list[str]:
    pragmas = (flag for name, value in _SQLITE.items() for flag in ("--sqlite-pragma", f"{name}={value}"))
    return ["--db-filename", str(data), *pragmas]


def _lock_data(data: Path) -> IO[str]:
    """Lock the database: two servers on one file would destroy it."""
    data.parent.mkdir(parents=True, exist_ok=True)
    lock = data.with_name(f"{data.name}.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise StackError(
            f"another development stack uses the data in {data}; stop it, or choose another file with --data"
        ) from None
    return lock


async def _ready(address: str, child: Child) -> None:
    """Wait until the server answers.

    Raises:
        StackError: it ended, or READY_TIMEOUT_S have passed.
    """
    answering = asyncio.create_task(_answering(address))
    ended = asyncio.create_task(child.wait())
    try:
        await asyncio.wait([answering, ended], timeout=READY_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            raise StackError(f"the Temporal server ended at once with exit code {ended.result()}:\n{child.last_lines}")
        if not answering.done():
            raise StackError(
                f"the Temporal server did not answer at {address} within {READY_TIMEOUT_S:g} s:\n{child.last_lines}"
            )
    finally:
        answering.cancel()
        ended.cancel()
        await asyncio.gather(answering, ended, return_exceptions=True)


async def _answering(address: str) -> None:
    """Return once the server has its default namespace with our search attributes."""
    while True:
        try:
            if not await search_attributes.missing(await Client.connect(address)):
                return
        except (RPCError, RuntimeError):  # it does not listen yet, or has no namespace yet
            pass
        await asyncio.sleep(0.05)
