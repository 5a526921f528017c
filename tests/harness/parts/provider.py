"""A simulated provider: `llmock` in a process of its own, that fails on script and keeps a journal."""

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Self

import httpx

from workers.dev.children import Child, StackError
from workers.dev.ports import LOOPBACK, free_port

START_TIMEOUT_S: Final = 30.0
PATHS: Final = {"openai": "/v1", "anthropic": "/anthropic"}

Behavior = dict[str, Any]
"""One entry of llmock's scenario."""


class Provider:
    """A provider while the context lasts; `ready()` tells when it answers.

    Attributes:
        name: litellm's name of it.
        root: Its address without a path.
    """

    def __init__(
        self, name: str, *, context_window: int | None = None, options: Sequence[str] = ("--response-style", "hello"),
        on_line: Callable[[str], None] | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.root = f"http://{LOOPBACK}:{free_port()}"
        self._context_window = context_window
        self._options = options
        self._on_line = on_line
        self._http = client(self.root)

    @property
    def api_base(self) -> str:
        """The address for a ModelSpec."""
        return self.base_of(self.name)

    def base_of(self, family: str) -> str:
        """The address for a ModelSpec of another family: one process speaks them all."""
        return self.root + PATHS[family]

    async def __aenter__(self) -> Self:
        port = self.root.rsplit(":", 1)[1]
        command = [sys.executable, "-m", "llmock.cli", "serve", "--host", LOOPBACK, "--port", port]
        window = ["--context-window", str(self._context_window)] if self._context_window else []
        self._child = await Child.start(
            f"the simulated {self.name}",
            [*command, "--log-level", "warning", *self._options, *window],
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


_CLOCK_PATH: Final = "/parts/clock"
_MARKS: Final = 5


async def journal(root: str, patience_s: float = 30.0) -> list[dict[str, Any]]:
    """Every request that the provider at `root` was sent, with `started_at` and `ended_at` in this machine's time.

    The journal counts by a clock of its own and leaves out requests that are still open. So requests of ours mark
    moments on both clocks, of which the briefest counts, and the journal is read again until no number is missing.

    Raises:
        StackError: a request is still open after `patience_s`.
    """
    async with client(root) as http:
        marks = [await _mark(http) for _ in range(_MARKS)]
        give_up = time.monotonic() + patience_s
        while time.monotonic() < give_up:
            records: list[dict[str, Any]] = (await http.get("/_llmock/requests")).raise_for_status().json()["requests"]
            marked = [record for record in records if record["path"] == _CLOCK_PATH][-_MARKS:]
            if len(records) == records[-1]["seq"]:
                offsets = [(took, at - record["started_at"]) for (took, at), record in zip(marks, marked, strict=True)]
                return _in_our_time(records, min(offsets)[1])
    raise StackError(f"the provider at {root} still serves a request after {patience_s:g} s")


async def _mark(http: httpx.AsyncClient) -> tuple[float, float]:
    """How long the request took, and the moment in its middle."""
    before = time.time()
    await http.get(_CLOCK_PATH)
    took = time.time() - before
    return took, before + took / 2


def _in_our_time(records: list[dict[str, Any]], offset: float) -> list[dict[str, Any]]:
    return [
        {**record, "started_at": record["started_at"] + offset, "ended_at": record["ended_at"] + offset}
        for record in records
        if record["path"] != _CLOCK_PATH
    ]
