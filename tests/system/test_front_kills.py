"""Two hundred clients of OpenAI's behind a front that is killed, and workers that are; the provider's journal counts."""

import asyncio
import signal
import sys
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import openai
import pytest
import yaml

from durable_llm import Dispatcher
from tests.harness.parts.provider import Provider, journal
from tests.support.kills import answered, environment, started
from workers.dev.children import Child
from workers.dev.ports import free_port
from workers.dev.server import DevServer, ServerOptions

CLIENTS = 200
KILL_FRONT = (20, 90)
KILL_WORKER = (50, 130)
"""Requests that the provider has answered when one of them is killed."""


@pytest.mark.alone
@pytest.mark.timeout(600)
async def test_every_client_gets_its_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own library's retries with its own key; no prompt is asked twice but where nobody knows an outcome."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(DevServer(ServerOptions(port=0, ui_port=None, data=None)))
        provider = await stack.enter_async_context(Provider("openai", options=("--latency-ms", "400")))
        await provider.ready()
        port = free_port()
        env = {
            **environment(server), "DURABLE_LLM_CHAINS": str(chains_file(tmp_path, provider.api_base)),
            "DURABLE_LLM_FRONT_PORT": str(port), "DURABLE_LLM_MAX_CONCURRENT_ATTEMPTS": "20",
        }  # fmt: skip
        worker, front = await started(env), await serving(env)
        client = openai.AsyncOpenAI(
            base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=100, timeout=300
        )  # fmt: skip
        stack.push_async_callback(client.close)

        async def ask(number: int) -> str:
            completion = await client.chat.completions.create(
                model="fast", messages=[{"role": "user", "content": f"Say {number}."}],
                extra_headers={"Idempotency-Key": f"key-{number}"},
            )  # fmt: skip
            return completion.id

        asking = [asyncio.create_task(ask(number)) for number in range(CLIENTS)]
        for count in sorted((*KILL_FRONT, *KILL_WORKER)):
            while await answered(provider) < count:
                await asyncio.sleep(0.05)
            if count in KILL_WORKER:
                worker.signal(signal.SIGKILL)
                await worker.wait()
                worker = await started(env)
            else:
                front.signal(signal.SIGKILL)
                await front.wait()
                front = await serving(env)
        ids = await asyncio.gather(*asking)
        stack.push_async_callback(worker.stop, 1.0)
        stack.push_async_callback(front.stop, 1.0)
        asked = Counter(record["body"]["messages"][0]["content"] for record in await journal(provider.root))
        monkeypatch.setenv("TEMPORAL_ADDRESS", server.address)
        async with Dispatcher.connect() as dispatcher:
            report = await dispatcher.report(session="local")

    assert ids == [f"local/key-{number}" for number in range(CLIENTS)]
    assert set(asked) == {f"Say {number}." for number in range(CLIENTS)}
    unknown, again = report.spent.attempts - CLIENTS, sum(asked.values()) - CLIENTS
    assert report.spent.calls == CLIENTS
    assert again <= unknown  # a lost worker may not have sent its request
    assert unknown > 0, "no worker was killed while it asked"
    print(f"{CLIENTS} clients, {again} asked again, {unknown} attempts lost with a worker")


def chains_file(directory: Path, api_base: str) -> Path:
    """A file of chains with `fast`, which asks the provider at this address."""
    chain = {"fast": {"models": [{"name": "openai/gpt-4o-mini", "api_base": api_base}]}}
    path = directory / "chains.yaml"
    path.write_text(yaml.safe_dump(chain))
    return path


async def serving(env: dict[str, str | None]) -> Child:
    """A front that listens."""
    ready = asyncio.Event()
    front = await Child.start(
        "front", [sys.executable, "-m", "durable_llm.cli", "serve"], env=env,
        on_line=lambda line: ready.set() if line.startswith("front ready") else None,
    )  # fmt: skip
    await ready.wait()
    return front
