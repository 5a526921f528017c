"""TCP ports on loopback: free ones, and who asked for one that is taken.

A server that finds its port taken says so in its own words, late, or not at all; here it is found before the start and
said in terms of what the user can change.
"""

import socket

from .children import StackError

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def claim_port(port: int, *, used_for: str, option: str) -> int:
    """`port` if it is free, any free one for 0.

    Raises:
        StackError: the port is taken; names it and the option that chooses another.
    """
    if port == 0:
        return free_port()
    if not 0 < port < 65_536:
        raise StackError(f"{option} {port}: a port is a number from 1 to 65535, or 0 for any free one")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a closed connection is no owner
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise StackError(
                f"port {port} for {used_for} cannot be used ({error.strerror}); is another 'make dev' running? "
                f"Choose another with {option}, or any free one with {option} 0"
            ) from None
    return port
