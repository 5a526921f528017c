"""The documents say what the code does: examples run, commands and links exist, claims name their tests."""

import ast
import asyncio
import os
import re
import shlex
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker
from typer.main import get_command

import durable_llm
from benchmarks.provider import complete
from durable_llm.cli.program import app
from durable_llm.contract.names import TASK_QUEUE
from durable_llm.contract.vectors import Vectors
from durable_llm.errors import DurableLLMError
from tests.docs.policy_page import policy_page
from tests.docs.settings_tables import MARKED, PAGES, settings_table
from tests.support import ROOT
from tests.support.scripted import ScriptedProvider, answer
from workflows.llm_call import LLMCall

DOCS = ROOT / "docs"
DOCUMENTS = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md")))
}
BLOCKS = {
    f"{page}:{number}": block
    for page, text in DOCUMENTS.items()
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL), 1)
}
COMMANDS = sorted({line for text in DOCUMENTS.values() for line in re.findall(r"^\$ (.+)$", text, re.MULTILINE)})
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
OTHER_PROGRAMS = {
    ".", "base64", "cat", "cp", "curl", "docker", "echo", "git", "gzip", "head", "jq", "pip", "printf", "sh", "temporal",
}  # fmt: skip
CLAIMS = {
    "docs/answers.md": (4, DOCUMENTS["docs/answers.md"].partition("\n## ")[0]),
    "docs/guarantees.md": (2, DOCUMENTS["docs/guarantees.md"].partition("\n## Not guaranteed")[0]),
    "docs/migrating.md": (3, DOCUMENTS["docs/migrating.md"].partition("<!-- lmi's")[2].partition("<!-- end")[0]),
}
ROWS = [
    (columns, line)
    for columns, text in CLAIMS.values()
    for line in re.findall(r"^\|(?!---)(.+)\|$", text, re.MULTILINE)
    if line.strip().partition(" |")[0] not in ("what is asked for", "guaranteed", "feature of lmi")
]
TESTS = {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}


# What is written


def test_the_readme_is_short() -> None:
    """A newcomer reads it to its end; everything else has a page of its own."""
    assert len(DOCUMENTS["README.md"].splitlines()) <= 130


def test_every_page_is_in_the_index() -> None:
    """A page that the index leaves out is not found."""
    listed = set(re.findall(r"^- \[.+?\]\((.+?\.md)\)", DOCUMENTS["docs/README.md"], re.MULTILINE))
    assert listed == {path.name for path in DOCS.glob("*.md")} - {"README.md"}


@pytest.mark.parametrize("page", DOCUMENTS)
def test_links_lead_somewhere(page: str) -> None:
    """No document points at a file or a heading that does not exist."""
    for path, heading in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", DOCUMENTS[page]):
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), path
        if heading:
            titles = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert heading in {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}, heading


@pytest.mark.parametrize("page", PAGES)
def test_the_settings_are_the_declared_ones(page: str) -> None:
    """`python -m tests.docs.settings_tables` has been run since the last change of a setting."""
    shown = MARKED.search(DOCUMENTS[f"docs/{page}"])
    assert shown
    assert shown[2] == settings_table(*PAGES[page])


def test_every_error_is_described() -> None:
    """A caller can look up each error that may be raised."""
    for name in durable_llm.__all__:
        value = getattr(durable_llm, name)
        if isinstance(value, type) and issubclass(value, DurableLLMError) and value is not DurableLLMError:
            assert f"| `{name}` |" in DOCUMENTS["docs/calls.md"], name


@pytest.mark.parametrize(("begin", "most"), [("submit", 20), ("a failure on the wire", 15)])
def test_a_newcomers_walk_is_short_and_names_files_that_exist(begin: str, most: int) -> None:
    """The architecture page leads through the code from end to end, in few files."""
    section = DOCUMENTS["docs/architecture.md"].partition("## Two walks")[2].partition(f"### From {begin} ")[2]
    files = re.findall(r"^\| \d+ \| `([\w/.]+)` \|", section.partition("\n#")[0], re.MULTILINE)
    assert 0 < len(files) <= most
    assert all((ROOT / file).exists() for file in files)


def test_the_policy_page_is_the_policy() -> None:
    """`python -m tests.docs.policy_page > docs/policy.md` has been run since the last change of a rule."""
    assert DOCUMENTS["docs/policy.md"] == policy_page()


@pytest.mark.parametrize(("columns", "row"), ROWS, ids=[row.split("|")[0].strip() for _, row in ROWS])
def test_a_claim_names_tests_that_exist(columns: int, row: str) -> None:
    """Every column of a claim says something, and the last one names tests: `file` or `file::test`."""
    cells = [cell.strip() for cell in row.split("|")]
    assert len(cells) == columns
    assert all(cells)
    assert "`test_" in cells[-1]
    for file, test in re.findall(r"`(test_\w+\.py)(?:::(\w+))?`", row):
        nodes = ast.walk(ast.parse(TESTS[file].read_text()))
        found = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert not test or test in found, test


# What is run


@pytest.fixture(scope="module")
async def openai() -> AsyncIterator[str]:
    """Address of a provider that always says 7, in OpenAI's place."""
    service = web.Application()
    service.router.add_post("/v1/chat/completions", complete)
    runner = web.AppRunner(service)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    await runner.cleanup()


TWO_VECTORS = Vectors.pack([[0.5, 0.25, 1.0]] * 2)


@pytest.mark.proof
@pytest.mark.parametrize("place", BLOCKS)
async def test_a_python_block_runs(server_env: WorkflowEnvironment, openai: str, place: str, tmp_path: Path) -> None:
    """What a reader copies works as it stands; a fragment works after `from durable_llm import *`."""
    block = BLOCKS[place]
    program = tmp_path / "block.py"
    fragment = "import" not in block
    program.write_text(f"from durable_llm import *\nfrom datetime import timedelta\n{block}" if fragment else block)
    address = server_env.client.service_client.config.target_host
    worker = Worker(
        server_env.client,
        task_queue=TASK_QUEUE,
        workflows=[LLMCall],
        workflow_runner=UnsandboxedWorkflowRunner(),
        activities=[ScriptedProvider([answer("7", vectors=TWO_VECTORS)]).provider_attempt],
    )
    async with worker, asyncio.timeout(60):
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(program), cwd=ROOT, stdout=PIPE, stderr=STDOUT,
            env={**os.environ, "TEMPORAL_ADDRESS": address, "OPENAI_API_KEY": "none", "OPENAI_BASE_URL": openai},
        )  # fmt: skip
        printed, _ = await process.communicate()
    assert process.returncode == 0, printed.decode()


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_exists(line: str) -> None:
    """Each command is a target, a program of ours with that command, or a well-known tool."""
    line = re.sub(r"#.*|^\w+=\$\(", "", line)
    for command in re.split(r"\s*[|;&]+\s*", line):
        words = [word for word in command.split() if not re.match(r"[A-Z_]+=", word)]
        if not words:
            continue
        if words[0] == "make":
            assert words[1] in TARGETS
        elif words[0] == "durable-llm":
            _parse(shlex.split(command)[shlex.split(command).index("durable-llm") + 1 :])
        elif words[0].startswith("python"):
            assert words[1] == "-m"
            assert words[2] in ("workers", "venv") or words[2].startswith(("tests.", "examples."))
        else:
            assert words[0] in OTHER_PROGRAMS or words[0].startswith("deploy/")


def _parse(words: list[str]) -> None:
    """Parse a line of our command line without running it: an unknown command or option is an error."""
    command = get_command(app).commands[words[0]]
    command.make_context(words[0], [word for word in words[1:] if word != "..."])
