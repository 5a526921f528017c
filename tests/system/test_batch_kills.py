"""Two thousand requests of a file, while the client and the worker are killed; the provider's journal counts."""

import asyncio
import signal
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from durable_llm import Dispatcher
from tests.cli.test_cli_batch import read, request, text_of, write
from tests.harness.parts.provider import Provider, journal
from tests.support.cli import run, start
from tests.support.kills import answered, environment, started
from workers.dev.server import DevServer, ServerOptions

REQUESTS = 2000
KILL_CLIENT = (200, 500, 900, 1300, 1700)
KILL_WORKER = (400, 1100)
"""Requests that the provider has answered when one of them is killed."""


@pytest.mark.alone
@pytest.mark.timeout(600)
async def test_a_batch_survives_killed_clients_and_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request has its answer, and was asked once but for attempts whose outcome nobody knows."""
    write(tmp_path / "in.jsonl", *(request(f"r{number}", f"Say {number}.") for number in range(REQUESTS)))
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(DevServer(ServerOptions(port=0, ui_port=None, data=None)))
        provider = await stack.enter_async_context(Provider("openai", options=("--latency-ms", "200")))
        await provider.ready()
        env = environment(server)
        words = ("batch", str(tmp_path / "in.jsonl"), "-o", str(tmp_path / "out.jsonl"), "--id", "batch-1")
        words += ("--api-base", provider.api_base)
        worker = await started(env)
        client = await start(*words, **server.env)
        for count in sorted((*KILL_CLIENT, *KILL_WORKER)):
            while await answered(provider) < count:
                await asyncio.sleep(0.05)
            if count in KILL_WORKER:
                worker.signal(signal.SIGKILL)
                await worker.wait()
                worker = await started(env)
            else:
                client.send_signal(signal.SIGKILL)
                await client.wait()
                client = await start(*words, **server.env)
        stack.push_async_callback(worker.stop, 1.0)
        async with asyncio.timeout(400):
            out, err = await client.communicate()
        assert client.returncode == 0, (out, err)
        again = await run(*words, **server.env)
        assert again.status == 0, again
        asked = Counter(record["body"]["messages"][0]["content"] for record in await journal(provider.root))
        monkeypatch.setenv("TEMPORAL_ADDRESS", server.address)
        async with Dispatcher.connect() as dispatcher:
            report = await dispatcher.report(job="batch-1")

    answers = read(tmp_path / "out.jsonl")
    assert sorted(answers) == sorted(f"r{number}" for number in range(REQUESTS))
    assert all(text_of(line) for line in answers.values())
    again_asked = sum(asked.values()) - REQUESTS
    unknown = report.spent.attempts - REQUESTS
    assert set(asked) == {f"Say {number}." for number in range(REQUESTS)}
    assert report.spent.calls == REQUESTS
    assert again_asked <= unknown  # a lost worker may not have sent its request
    assert unknown > 0, "no worker was killed while it asked"
    print(f"{REQUESTS} requests, {again_asked} asked again, {unknown} attempts lost with a worker")
