"""Programs of ours as processes: what tests of whole processes share."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from temporalio.testing import WorkflowEnvironment

from tests.support import ROOT

START_S = 60
"""Seconds that a program gets to start or to end: the machine may be busy."""

ANSWER = {
    "id": "x", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "7"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
}  # fmt: skip
SERVES = {"http_status": 200, "headers": {"content-type": "application/json"}, "body": ANSWER}
"""A provider that answers."""
HANGS = {"http_status": 0, "fault": "timeout", "headers": {}, "body": None}
"""A provider that takes the request and never says anything."""


async def start(*command: str, python: str = sys.executable, **env: str) -> Process:
    """Start a program of ours with a clean environment plus `env`."""
    plain = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV") if name in os.environ}
    return await asyncio.create_subprocess_exec(
        python, *command, cwd=ROOT, env={**plain, **env}, stdout=PIPE, stderr=PIPE
    )  # fmt: skip


async def outcome(process: Process) -> tuple[int, str]:
    """Exit status and everything that was printed."""
    async with asyncio.timeout(START_S):
        out, err = await process.communicate()
    return process.returncode or 0, (out + err).decode()


async def ready(process: Process) -> None:
    """Wait for the line that a worker prints once it polls."""
    async with asyncio.timeout(START_S):
        line = await process.stdout.readline()
    assert b"worker ready" in line, await outcome(process)


@asynccontextmanager
async def worker(env: WorkflowEnvironment, task_queue: str, **settings: str) -> AsyncIterator[Process]:
    """A worker process that polls `task_queue`."""
    process = await start_worker(env, task_queue, **settings)
    try:
        await ready(process)
        yield process
    finally:
        await kill(process)


async def start_worker(env: WorkflowEnvironment, task_queue: str, **settings: str) -> Process:
    """Start a worker process for `task_queue`; `ready` waits for it, `kill` ends it."""
    address = env.client.service_client.config.target_host
    return await start(
        "-m", "workers", TEMPORAL_ADDRESS=address, DURABLE_LLM_TASK_QUEUE=task_queue,
        DURABLE_LLM_API_BASE_HOSTS="127.0.0.1", **settings,
    )  # fmt: skip


async def kill(process: Process) -> None:
    """SIGKILL, unless it has ended."""
    if process.returncode is None:
        process.kill()
        await process.wait()
