"""What servers of ours share: a socket with a clear error, and signals that uvicorn may handle."""

import asyncio
import signal
import socket

from .settings import SettingsError


def listening(host: str, port: int, variable: str) -> socket.socket:
    """A socket that listens.

    Raises:
        SettingsError: the address cannot be used; names `variable`.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise SettingsError(
            f"{variable}: cannot listen on {host} port {port}: {error.strerror}; choose another, or 0 for any free one"
        ) from None


def absorb_signals() -> None:
    """Handle the signal that uvicorn raises again after its shutdown. Otherwise it would kill this process."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, lambda: None)
