"""An upgrade in flight: calls that the previous release began are ended by this one, and both read each other's answers."""

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from temporalio.testing import WorkflowEnvironment

from durable_llm import Attempt, Dispatcher
from tests.support import ROOT
from tests.support.bodies import openai
from tests.support.processes import kill, ready, worker
from tests.support.stranger import pip
from workers.dev.ports import free_port

PREVIOUS = "3efce479f07cad6df4411f448aaadf69a8f1e0b1"
"""The commit before the packages were divided into rooms: the last one whose wheel had another layout."""

PROMPTS = ("answered", "waiting", "open")


def previous_commit() -> str:
    """The full hash of PREVIOUS; "" where this checkout has no history."""
    command = ["git", "rev-parse", "--verify", "--quiet", f"{PREVIOUS}^{{commit}}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


pytestmark = pytest.mark.skipif(not previous_commit(), reason="the previous release is not in this checkout's history")


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the previous release as its wheel installs it; what it depends on is this environment's."""
    folder = tmp_path_factory.mktemp("previous")
    archive = subprocess.run(["git", "archive", previous_commit()], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder / "source", filter="data")
    pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", str(folder), str(folder / "source"))
    (wheel,) = folder.glob("*.whl")
    pip(sys.executable, "install", "--no-deps", "--target", str(folder / "installed"), str(wheel))
    assert (folder / "installed" / "durable_llm" / "_service").is_dir()  # the layout of then
    return folder / "installed"


class Provider:
    """A model that answers each prompt as its text says; all of them when they are asked again."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.open = asyncio.Event()
        """Set when the request that is never answered has arrived."""

    async def complete(self, request: web.Request) -> web.Response:
        """One chat completion."""
        prompt = (await request.json())["messages"][0]["content"]
        self.asked[prompt] += 1
        if prompt == "waiting" and self.asked[prompt] == 1:
            return web.json_response({"error": {"message": "slow down"}}, status=429, headers={"retry-after": "6"})
        if prompt == "open" and self.asked[prompt] == 1:
            self.open.set()
            await asyncio.Event().wait()
        return web.json_response(openai(text=f"{prompt}: {self.asked[prompt]}"))


class Release:
    """The previous release's programs, against one server and task queue."""

    def __init__(self, installed: Path, address: str, task_queue: str) -> None:
        self._installed = installed
        self._env = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "PYTHONPATH": str(installed), "TEMPORAL_ADDRESS": address, "DURABLE_LLM_TASK_QUEUE": task_queue,
            "DURABLE_LLM_API_BASE_HOSTS": "127.0.0.1", "DURABLE_LLM_HEARTBEAT_TIMEOUT_S": "4",
            "DURABLE_LLM_HEARTBEAT_INTERVAL_S": "1", "DURABLE_LLM_GRACEFUL_SHUTDOWN_S": "1",
        }  # fmt: skip

    async def start(self, *arguments: str) -> Process:
        """Start `durable-llm` with these arguments."""
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "durable_llm.cli", *arguments,
            cwd=self._installed, env=self._env, stdout=PIPE, stderr=PIPE,
        )  # fmt: skip

    async def run(self, *arguments: str) -> Any:
        """The JSON that a command prints."""
        process = await self.start(*arguments, "--json")
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, err.decode()
        return json.loads(out)


@pytest.fixture
async def provider() -> AsyncIterator[tuple[Provider, str]]:
    """A provider on loopback, and its address."""
    model, app = Provider(), web.Application()
    app.router.add_post("/v1/chat/completions", model.complete)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port := free_port()).start()
    yield model, f"http://127.0.0.1:{port}/v1"
    await runner.cleanup()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
async def test_calls_of_the_previous_release_are_ended_by_this_one(
    how: signal.Signals, previous: Path, provider: tuple[Provider, str], server_env: WorkflowEnvironment
) -> None:
    """Answered before, waiting between two attempts, with a request open: each ends with its own answer, here and there."""
    model, api_base = provider
    queue = f"upgrade-{how.name}"
    release = Release(previous, server_env.client.service_client.config.target_host, queue)
    ids = {prompt: f"{queue}/{prompt}" for prompt in PROMPTS}
    old = await release.start("worker")
    try:
        await ready(old)
        for prompt, call_id in ids.items():
            options = ("--id", call_id, "-m", "openai/local", "--api-base", api_base, "--task-queue", queue)
            await release.run("submit", *options, prompt)
        await asyncio.wait_for(model.open.wait(), 60)
        async with Dispatcher(server_env.client, task_queue=queue) as dispatcher:
            handles = {prompt: dispatcher.attach(call_id) for prompt, call_id in ids.items()}
            assert (await handles["answered"].result()).text == "answered: 1"
            while not (await handles["waiting"].status()).activity.startswith("waiting"):
                await asyncio.sleep(0.05)
            old.send_signal(how)
            await asyncio.wait_for(old.wait(), 60)
            async with worker(server_env, queue):
                results = {prompt: await asyncio.wait_for(handle.result(), 60) for prompt, handle in handles.items()}
    finally:
        await kill(old)
    assert {prompt: result.text for prompt, result in results.items()} == {
        "answered": "answered: 1", "waiting": "waiting: 2", "open": "open: 2",
    }  # fmt: skip
    assert story(results["waiting"].attempts) == [("failed", "rate_limited"), ("answered", None)]
    assert story(results["open"].attempts) == [("unknown", "worker_lost"), ("answered", None)]
    assert model.asked == {"answered": 1, "waiting": 2, "open": 2}
    read = [await release.run("result", call_id) for call_id in ids.values()]
    assert [result["text"] for result in read] == [result.text for result in results.values()]


def story(attempts: list[Attempt]) -> list[tuple[str, str | None]]:
    """How each attempt ended."""
    return [(str(attempt.outcome), attempt.category) for attempt in attempts]
