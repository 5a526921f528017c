"""TCP ports on loopback.

A server reports a used port late, or not at all. So ports are checked before the start, and the error names the option
to change.
"""

import socket

from .children import StackError

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


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
