"""A worker is killed while a provider's batch runs; llmock's journal says what was sent."""

import asyncio
import signal
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from durable_llm import Dispatcher, ModelSpec
from tests.harness.parts.provider import Provider, journal
from tests.support.kills import environment, started
from workers.dev.server import DevServer, ServerOptions

CALLS = 20


@pytest.mark.alone
@pytest.mark.timeout(300)
async def test_a_killed_workers_batch_is_sent_once_and_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another worker polls it and gives each call its answer."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(DevServer(ServerOptions(port=0, ui_port=None, data=None)))
        provider = await stack.enter_async_context(Provider("openai"))
        await provider.ready()
        env = {**environment(server), "DURABLE_LLM_BATCH_WINDOW_S": "15"}
        worker = await started(env)
        monkeypatch.setenv("TEMPORAL_ADDRESS", server.address)
        dispatcher = await stack.enter_async_context(Dispatcher.connect())
        asked = ModelSpec(name="openai/gpt-4o-mini", api_base=provider.api_base, batch=True)
        handles = [await dispatcher.submit(asked, f"Say {number}.") for number in range(CALLS)]
        while not await batches(provider):
            await asyncio.sleep(0.05)
        worker.signal(signal.SIGKILL)
        await worker.wait()
        worker = await started(env)
        stack.push_async_callback(worker.stop, 1.0)
        results = [await handle.result(timedelta(seconds=200)) for handle in handles]
        sent = await batches(provider)
    assert all(result.text and result.attempts_total == 1 for result in results)
    assert sent == 1


async def batches(provider: Provider) -> int:
    """Batches that were sent."""
    return sum(each["method"] == "POST" and each["path"].endswith("/batches") for each in await journal(provider.root))
