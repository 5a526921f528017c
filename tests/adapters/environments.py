"""Run a program in the environment of an adapter, beside a worker and a provider of the test."""

import asyncio
import json
from asyncio.subprocess import Process
from pathlib import Path
from typing import Any

from durable_llm import Dispatcher
from tests.support import ROOT
from tests.support.processes import start

PROGRAM_S = 300
"""Seconds that a program gets: these libraries take long to import on a busy machine."""


def python_of(adapter: str) -> Path:
    """The interpreter of an adapter's environment."""
    python = ROOT / ".durable-llm" / "adapters" / adapter / "bin" / "python"
    assert python.exists(), f"the environment of {adapter} is missing; run 'make adapters'"
    return python


async def printed(
    adapter: str, program: str, *arguments: str, dispatcher: Dispatcher, api_base: str, streams: str = ""
) -> Any:
    """What a program of `tests.adapters.programs` prints, as JSON."""
    client = dispatcher.client
    process = await start(
        "-m", f"tests.adapters.programs.{program}", *arguments, python=str(python_of(adapter)),
        TEMPORAL_ADDRESS=client.service_client.config.target_host, DURABLE_LLM_TASK_QUEUE=dispatcher.task_queue,
        DURABLE_LLM_STREAMS=streams, API_BASE=api_base, OPENAI_API_KEY="none", LITELLM_LOCAL_MODEL_COST_MAP="True",
    )  # fmt: skip
    return await ended(process)


async def ended(process: Process) -> Any:
    """What a program has printed at its end, as JSON."""
    async with asyncio.timeout(PROGRAM_S):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return json.loads(out.splitlines()[-1])
