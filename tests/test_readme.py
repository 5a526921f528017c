"""The README's Python runs: each block as a program of its own, against a server with a worker."""

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from durable_llm.names import TASK_QUEUE
from tests.scripted import ScriptedProvider, answer
from workflows.llm_call import LLMCall

ROOT = Path(__file__).parents[1]
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
