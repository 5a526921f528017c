"""A simulated provider: `llmock` in a process of its own, that fails on script and keeps a journal."""

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any, Final, Self

import httpx

from examples.demo.script import Behavior
from workers.children import Child, StackError
from workers.ports import LOOPBACK, free_port

START_TIMEOUT_S: Final = 30.0
PATHS: Final = {"openai": "/v1", "anthropic": "/anthropic"}


class Provider:
    """A provider while the context lasts; `ready()` tells when it answers.

    Attributes:
        name: litellm's name of it.
        root: Its address without a path.
    """

    def __init__(
        self, name: str, *, context_window: int | None = None, on_line: Callable[[str], None] | None = None
    ) -> None:
        self.name = name
        self.root = f"http://{LOOPBACK}:{free_port()}"
        self._context_window = context_window
        self._on_line = on_line
        self._http = client(self.root)

    @property
    def api_base(self) -> str:
        """The address for a ModelSpec."""
        return self.root + PATHS[self.name]

    async def __aenter__(self) -> Self:
        port = self.root.rsplit(":", 1)[1]
        command = [sys.executable, "-m", "llmock.cli", "serve", "--host", LOOPBACK, "--port", port]
        window = ["--context-window", str(self._context_window)] if self._context_window else []
        self._child = await Child.start(
            f"the simulated {self.name}",
            [*command, "--log-level", "warning", "--response-style", "hello", *window],
            on_line=self._on_line,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()
        await self._child.stop(2.0)

    async def script(self, behaviors: list[Behavior]) -> None:
        """Let upcoming requests meet `behaviors`."""
        if behaviors:
            (await self._http.post("/_llmock/scenario", json={"behaviors": behaviors})).raise_for_status()

    async def pending(self) -> list[Behavior]:
        """The scripted behaviours that no request has met yet. A request meets its own when it arrives."""
        response = (await self._http.get("/_llmock/scenario")).raise_for_status()
        pending: list[Behavior] = response.json()["pending"]
        return pending

    async def ready(self) -> None:
        """Wait until it answers.

        Raises:
            StackError: it ended, or took longer than START_TIMEOUT_S.
        """
        give_up = time.monotonic() + START_TIMEOUT_S
        while self._child.returncode is None and time.monotonic() < give_up:
            try:
                (await self._http.get("/health")).raise_for_status()
                return
            except httpx.TransportError:
                await asyncio.sleep(0.1)
        raise StackError(f"{self._child.name} did not start:\n{self._child.last_lines}")


def client(root: str) -> httpx.AsyncClient:
    """A client for an address on this machine, whatever proxy the environment names."""
    return httpx.AsyncClient(base_url=root, trust_env=False, timeout=10.0)


_CLOCK_PATH: Final = "/demo/clock"


async def journal(root: str, patience_s: float = 30.0) -> list[dict[str, Any]]:
    """Every request that the provider at `root` was sent, with `started_at` and `ended_at` in this machine's time.

    The journal counts by a clock of its own and leaves out requests that are still open. So a request of ours marks one
    moment on both clocks, and the journal is read again until no number is missing before it.

    Raises:
        StackError: a request is still open after `patience_s`.
    """
    async with client(root) as http:
        marked_at = time.time()
        await http.get(_CLOCK_PATH)
        give_up = time.monotonic() + patience_s
        while time.monotonic() < give_up:
            records: list[dict[str, Any]] = (await http.get("/_llmock/requests")).raise_for_status().json()["requests"]
            mark = next(record for record in reversed(records) if record["path"] == _CLOCK_PATH)
            if len(records) == mark["seq"]:
                return _in_our_time(records, marked_at - mark["started_at"])
    raise StackError(f"the provider at {root} still serves a request after {patience_s:g} s")


def _in_our_time(records: list[dict[str, Any]], offset: float) -> list[dict[str, Any]]:
    return [
        {**record, "started_at": record["started_at"] + offset, "ended_at": record["ended_at"] + offset}
        for record in records
        if record["path"] != _CLOCK_PATH
    ]
