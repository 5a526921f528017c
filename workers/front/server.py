"""The front as a process: from its settings to its last answered request."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from types import FrameType
from typing import Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from durable_llm.client.dispatcher import Connecting
from durable_llm.client.tokens import Token, read_tokens

from ..http import absorb_signals, listening
from ..logs import show_logs
from ..settings import LogSettings, from_environment
from .access import Chains
from .app import make_app
from .batches.endpoints import BatchEndpoints
from .batches.files import Files
from .batches.run import Batches
from .batches.worker import batch_worker, queue_of
from .front import Front
from .settings import FRONT_PREFIX, load_front_settings

HEADERS_S: Final = 20.0
"""Seconds that a new connection has to send the headers of its first request."""


async def run_front(connecting: Connecting, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, and answer what is open.

    Args:
        connecting: The connection to Temporal that is made.
        announce: Called with one line when the server listens.

    Raises:
        SettingsError, InvalidRequestError: a setting, a chain or a token cannot be used, or the address is in use.
        DispatcherUnavailableError: Temporal does not answer.
    """
    settings = load_front_settings()
    tokens = None if settings.tokens is None else read_tokens(settings.tokens)
    chains = Chains(models=settings.models)
    show_logs(from_environment(LogSettings))
    async with connecting as dispatcher:
        front = Front(dispatcher, chains, tokens)
        files = Files(dispatcher.store, dispatcher.client.data_converter)
        batches = BatchEndpoints(front, files, dispatcher.client, queue_of(dispatcher.task_queue))
        config = uvicorn.Config(
            make_app(front, batches, settings.max_body_bytes), log_level="warning", access_log=False,
            server_header=False,
            limit_concurrency=settings.max_connections + 1, timeout_graceful_shutdown=int(settings.drain_s) + 5,
            h11_max_incomplete_event_size=64 * 1024, http=_Protocol,
        )  # fmt: skip
        server = _Server(config, front, settings.drain_s)
        with listening(settings.host, settings.port, f"{FRONT_PREFIX}PORT") as listener:
            absorb_signals()
            port = listener.getsockname()[1]
            announce(f"front ready: http://{settings.host}:{port}/v1, {_who(tokens)}")
            async with AsyncExitStack() as stack:
                if dispatcher.store is not None:
                    runs = Batches(dispatcher, chains, files)
                    await stack.enter_async_context(batch_worker(dispatcher.client, dispatcher.task_queue, runs))
                await server.serve(sockets=[listener])


class _Protocol(H11Protocol):
    """Closes connections whose first request does not begin; uvicorn would keep them for ever."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base class
        """See base class."""
        super().connection_made(transport)
        self.loop.call_later(HEADERS_S, self._close_if_silent)

    def _close_if_silent(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


class _Server(uvicorn.Server):
    """Gives open requests `drain_s` seconds once it is told to stop; then the front hands them back."""

    def __init__(self, config: uvicorn.Config, front: Front, drain_s: float) -> None:
        super().__init__(config)
        self._front = front
        self._drain_s = drain_s

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See base class."""
        super().handle_exit(sig, frame)
        asyncio.get_running_loop().call_later(self._drain_s, self._front.draining.set)


def _who(tokens: Sequence[Token] | None) -> str:
    return "for everybody on this machine" if tokens is None else f"for {len(tokens)} tokens"
