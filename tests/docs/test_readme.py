"""The README's Python runs: each block as a program of its own, against a server with a worker."""

import asyncio
import os
import re
import shlex
import sys
from asyncio.subprocess import PIPE, STDOUT

import pytest
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from durable_llm.contract.names import TASK_QUEUE
from tests.support import ROOT
from tests.support.scripted import ScriptedProvider, answer
from workflows.llm_call import LLMCall

PAGES = ("README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")))
BLOCKS = [
    (f"{page}:{number}", block)
    for page in PAGES
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL), 1)
]


@pytest.mark.parametrize(("place", "block"), BLOCKS, ids=[place for place, _ in BLOCKS])
async def test_a_python_block_of_the_documents_runs(server_env: WorkflowEnvironment, place: str, block: str) -> None:
    """What a reader copies works as it stands; a fragment works after `from durable_llm import *`."""
    program = block if "import" in block else f"from durable_llm import *\nfrom datetime import timedelta\n{block}"
    worker = Worker(
        server_env.client,
        task_queue=TASK_QUEUE,
        workflows=[LLMCall],
        workflow_runner=UnsandboxedWorkflowRunner(),
        activities=[ScriptedProvider([answer("7")]).provider_attempt],
    )
    address = server_env.client.service_client.config.target_host
    async with worker, asyncio.timeout(60):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, cwd=ROOT, env={**os.environ, "TEMPORAL_ADDRESS": address},
            stdout=PIPE, stderr=STDOUT,
        )  # fmt: skip
        printed, _ = await process.communicate()
    assert process.returncode == 0, printed.decode()


COMMANDS = [line for page in PAGES for line in re.findall(r"^\$ (.+)$", (ROOT / page).read_text(), re.MULTILINE)]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
WITHOUT_OURS = {
    "base64",
    "cat",
    "cp",
    "curl",
    ".",
    "docker",
    "echo",
    "git",
    "gzip",
    "head",
    "jq",
    "pip",
    "printf",
    "sh",
    "temporal",
}


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_documents_exists(line: str) -> None:
    """Each command is a target, a program of ours with that command, or a well-known tool."""
    line = re.sub(r"#.*|^\w+=\$\(", "", line)
    for command in re.split(r"\s*[|;&]+\s*", line):
        words = [word for word in command.split() if not re.match(r"[A-Z_]+=", word)]
        if not words:
            continue
        if words[0] == "make":
            assert words[1] in TARGETS, line
        elif words[0] == "durable-llm":
            parse(shlex.split(command)[shlex.split(command).index("durable-llm") + 1 :])
        elif words[0].startswith("python"):
            assert words[1] == "-m", line
            assert words[2] in ("workers", "venv") or words[2].startswith(("tests.", "examples.")), line
        else:
            assert words[0] in WITHOUT_OURS or words[0].startswith((".", "deploy/")), line


def parse(words: list[str]) -> None:
    """Parse a line of our command line without running it: an unknown command or option is an error."""
    from typer.main import get_command

    from durable_llm.cli.program import app

    command = get_command(app).commands[words[0]]
    command.make_context(words[0], [word for word in words[1:] if word != "..."])
