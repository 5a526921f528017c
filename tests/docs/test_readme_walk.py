"""The console blocks of the README and of docs/getting-started.md, typed one after the other on a fresh machine.

The reader has a home of his own, and works in a folder and beside a distribution that both own a top-level `workflows`.
Three things differ from what he reads: a provider on this machine stands for OpenAI's API, the ports are free ones, and
the database is in his home.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.stranger import Stranger, pip, running, squatter
from workers.dev.ports import free_port

ONE_CALL = """
import asyncio, os, sys
from durable_llm import Dispatcher, ModelSpec

async def main():
    async with Dispatcher.connect() as dispatcher:
        spec = ModelSpec(name="openai/gpt-4o-mini", api_base=sys.argv[1])
        print((await dispatcher.call(spec, "Name a prime.")).text, flush=True)

asyncio.run(main())
assert not {"workflows", "activities", "workers", "litellm"} & set(sys.modules)
"""


def console_blocks(page: str) -> list[str]:
    """The console blocks of a page, with what the commands print."""
    return re.findall(r"```console\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def commands(block: str) -> list[str]:
    """The lines of a block that are typed."""
    return re.findall(r"^\$ (.+)$", block, re.MULTILINE)


def labels(printed: str) -> list[str]:
    """The first column of what `durable-llm dev` prints: "Temporal", "UI", ..."""
    return re.findall(r"^  (\S+(?: \S+)*)  ", printed, re.MULTILINE)


def columns(printed: str) -> list[str]:
    """The head of the table that `durable-llm show` prints."""
    head = next(line for line in printed.splitlines() if line.strip().startswith("# "))
    return re.split(r"\s{2,}", head.strip())


class Reader(Stranger):
    """Types commands in the environment that the README's installation made."""

    def __init__(self, home: Path, provider: int) -> None:
        super().__init__(home, "durable-llm")
        self._port = free_port()
        self._provider = provider
        self._data = home / "dev.db"
        self.address = f"127.0.0.1:{self._port}"
        self.api_base = f"http://127.0.0.1:{provider}/v1"

    @contextmanager
    def stack(self, line: str) -> Iterator[list[str]]:
        """The development stack, as `line` starts it, until Ctrl-C; gives what it prints at its start."""
        options = ["--port", str(self._port), "--ui-port", "0", "--data", str(self._data)]
        env = self.env(OPENAI_BASE_URL=self.api_base)
        command = ["env", *shlex.split(line), *options]
        printed: list[str] = []

        def complete(said: str) -> bool:
            printed.append(said)
            return "Ctrl-C" in said

        with running(command, complete, cwd=self.folder, env=env) as dev:
            yield printed
            dev.send_signal(signal.SIGINT)
            said = dev.stdout.read()
            assert dev.wait(timeout=45) == 0, said
            assert "Traceback" not in said

    def type(self, line: str) -> str:
        """What a command prints."""
        line = line.replace("127.0.0.1:11434", f"127.0.0.1:{self._provider}")
        done = self.run("sh", "-c", line, TEMPORAL_ADDRESS=self.address)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def listed(self, line: str) -> str:
        """The id that a list shows; Temporal lists a call a moment after it was made."""
        give_up = time.monotonic() + 20
        while time.monotonic() < give_up:
            if found := re.search(r"llm-[0-9a-f-]{36}", self.type(line)):
                return found[0]
        pytest.fail("no call is listed")


@pytest.fixture
def provider() -> Iterator[int]:
    """Port of an OpenAI-compatible server that always says 7."""
    port = free_port()
    command = [sys.executable, str(ROOT / "benchmarks" / "provider.py"), str(port)]
    with running(command, lambda said: "Running" in said, env={**os.environ, "PYTHONUNBUFFERED": "1"}):
        yield port


def install(home: Path, lines: list[str]) -> None:
    """Type the lines that lead to an installation, in the checkout, with this project's versions."""
    env = {**os.environ, "HOME": str(home), "PIP_CONSTRAINT": str(ROOT / "constraints.txt"), "PIP_NO_COMPILE": "1"}
    command = ["bash", "-euc", "\n".join(lines)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(300)
def test_every_command_of_the_first_pages_works_as_it_is_written(tmp_path: Path, provider: int) -> None:
    """From the clone to an answer with a key and from a local server, and the README's transcript is what is printed."""
    installation, starting, calling = console_blocks("README.md")
    again, with_key, use, local = map(commands, console_blocks("docs/getting-started.md"))
    assert again == commands(installation)
    install(tmp_path, commands(installation))
    reader = Reader(tmp_path, provider)
    pip(reader.python, "install", "--no-deps", str(squatter(tmp_path)))

    with reader.stack(commands(starting)[0]) as printed:
        assert labels("".join(printed)) == labels(starting)
        answer, table = (reader.type(line) for line in commands(calling))
        assert answer == "7\n"
        assert columns(table) == columns(calling)
    with reader.stack(with_key[0]):
        assert reader.type(use[0]) == "7\n"
        call_id = reader.listed(use[1])
        assert "answered" in reader.type(use[2].replace("CALL_ID", call_id))
    with reader.stack(local[0]):
        assert [reader.type(line) for line in local[1:]] == ["7\n"]
        program = reader.run(str(reader.python), "-P", "-c", ONE_CALL, reader.api_base, TEMPORAL_ADDRESS=reader.address)
        assert program.stdout == "7\n", program.stderr
