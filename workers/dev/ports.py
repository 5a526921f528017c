"""TCP ports on loopback.

A server reports a used port late, or not at all. So ports are checked before the start, and the error names the option
to change.
"""

import random
import socket
from contextlib import suppress
from typing import Final

from .children import StackError

LOOPBACK = "127.0.0.1"


_ASSIGNED_FROM_HERE: Final = range(20_000, 32_000)
"""Below the ports that operating systems give to connections and to servers that ask for any port. One of those may be
taken between this look and the server's start."""


def free_port() -> int:
    """A port that is free now.

    Raises:
        StackError: there is none.
    """
    for port in random.sample(_ASSIGNED_FROM_HERE, len(_ASSIGNED_FROM_HERE)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port
    raise StackError("there is no free port")


def claim_port(port: int, *, used_for: str, option: str) -> int:
    """`port` if it is free. For 0 any free port.

    Raises:
        StackError: the port is in use; names it and the option for another.
    """
    if port == 0:
        return free_port()
    if not 0 < port < 65_536:
        raise StackError(f"{option} {port}: expected a port from 1 to 65535, or 0 for a free one")
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as servers do, so that a closed connection does not count
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise StackError(
                f"port {port} for {used_for} cannot be used ({error.strerror}); is another 'make dev' running? "
                f"Choose another with {option}, or a free one with {option} 0"
            ) from None
    return port
