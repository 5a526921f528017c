"""The program `durable-llm` as a process, and what came of it."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from typing import Any, NamedTuple

from tests.conftest import Stage
from tests.support import ROOT

PROGRAM = ("-m", "durable_llm.cli")
MODEL = "openai/gpt-4o-mini"


class Ended(NamedTuple):
    """How a process ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


async def start(*arguments: str, program: tuple[str, ...] = PROGRAM, stderr: int = PIPE, **env: str) -> Process:
    """Start the program with a clean environment plus `env`."""
    plain = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV") if name in os.environ}
    return await asyncio.create_subprocess_exec(
        sys.executable, *program, *arguments, cwd=ROOT, env={**plain, **env}, stdin=PIPE, stdout=PIPE, stderr=stderr
    )


async def ended(process: Process, stdin: bytes = b"") -> Ended:
    """Wait for the end."""
    async with asyncio.timeout(60):
        out, err = await process.communicate(stdin)
    return Ended(process.returncode or 0, out.decode(), (err or b"").decode())


async def run(*arguments: str, stdin: bytes = b"", program: tuple[str, ...] = PROGRAM, **env: str) -> Ended:
    """Run the program to its end."""
    return await ended(await start(*arguments, program=program, **env), stdin)


def at(stage: Stage) -> dict[str, str]:
    """The environment that leads to a stage."""
    return {**server(stage.client), "DURABLE_LLM_TASK_QUEUE": stage.task_queue}


def server(client: Any) -> dict[str, str]:
    """The environment that leads to a server."""
    return {"TEMPORAL_ADDRESS": client.service_client.config.target_host}
