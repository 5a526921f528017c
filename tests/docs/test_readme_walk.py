"""The README's console blocks, typed one after the other by somebody who has nothing else.

He works in a home of his own, from a folder and beside a distribution that own a top-level `workflows`. Three things are
not his: a provider on this machine stands for OpenAI's API, the ports are free ones, and so is the database's place.
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
from typing import Final

import pytest

from tests.support import ROOT
from tests.support.stranger import Stranger, pip, running, squatter
from workers.dev.ports import free_port

ELSEWHERE: Final = {
    "make demo": "tests/system/test_demo.py runs it whole",
    "make demo KEEP=1": "as above; it waits for Ctrl-C",
    "make test": "runs everything but the long proofs",
    "make proofs": "is what runs this",
    "make chaos": "tests/system/test_chaos.py runs its short form",
}
"""Lines of the README that are not typed here, and why."""

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


def blocks() -> list[list[str]]:
    """The commands of each console block, without their comments."""
    found = re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = [[line.removeprefix("$ ").partition("  #")[0].strip() for line in block.splitlines()] for block in found]
    return [[line for line in block if line and line not in ELSEWHERE] for block in lines]


class Reader(Stranger):
    """Types commands; what the README's installation made is there."""

    def __init__(self, home: Path, provider: int) -> None:
        super().__init__(home, "durable-llm")
        self._port = free_port()
        self._provider = provider
        self._data = home / "dev.db"
        self.address = f"127.0.0.1:{self._port}"
        self.api_base = f"http://127.0.0.1:{provider}/v1"

    @contextmanager
    def stack(self, line: str) -> Iterator[subprocess.Popen[str]]:
        """The development stack, as `line` starts it, until Ctrl-C."""
        options = ["--port", str(self._port), "--ui-port", "0", "--data", str(self._data)]
        env = self.env(OPENAI_BASE_URL=self.api_base)
        command = ["env", *shlex.split(line), *options]
        with running(command, lambda said: "Ctrl-C" in said, cwd=self.folder, env=env) as dev:
            yield dev
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


def install(home: Path, first: list[str], second: list[str]) -> None:
    """The blocks that lead to an installation, in the checkout, with this project's versions."""
    env = {**os.environ, "HOME": str(home), "PIP_CONSTRAINT": str(ROOT / "constraints.txt"), "PIP_NO_COMPILE": "1"}
    script = "\n".join([*first, *second])
    done = subprocess.run(["bash", "-euc", script], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(300)
def test_who_types_the_readmes_commands_gets_answers(tmp_path: Path, provider: int) -> None:
    """From the clone to an answer by one's own key and by a local server: every command works as it is written."""
    first, second, with_key, use, local = blocks()
    install(tmp_path, first, second)
    reader = Reader(tmp_path, provider)
    pip(reader.python, "install", "--no-deps", str(squatter(tmp_path)))

    with reader.stack(with_key[0]):
        assert reader.type(use[0]) == "7\n"
        call_id = reader.listed(use[1])
        assert "answered" in reader.type(use[2].replace("CALL_ID", call_id))

    with reader.stack(local[0]):
        assert [reader.type(line) for line in local[1:]] == ["7\n"]
        program = reader.run(str(reader.python), "-P", "-c", ONE_CALL, reader.api_base, TEMPORAL_ADDRESS=reader.address)
        assert program.stdout == "7\n", program.stderr


def test_every_line_that_is_not_typed_here_is_in_the_readme() -> None:
    """The list of exceptions does not outlive what it excepts."""
    readme = (ROOT / "README.md").read_text()
    assert all(re.search(rf"^\$ {re.escape(line)}(  |$)", readme, re.MULTILINE) for line in ELSEWHERE)
