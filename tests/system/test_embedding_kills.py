"""Ten thousand texts are embedded while workers are killed, and the provider's journal says what was asked twice."""

import asyncio
import signal
from collections import Counter
from contextlib import AsyncExitStack

import pytest
from llmock.simulation import build_mock_embedding

from durable_llm import Dispatcher, ModelSpec
from durable_llm.contract.vectors import Vectors
from tests.harness.parts.provider import Provider, journal
from tests.support.kills import answered, environment, started
from workers.dev.server import DevServer, ServerOptions

TEXTS = [f"sentence {number} of a long corpus" for number in range(10_000)]
KILL_AFTER = (15, 40, 65)
"""Requests that the provider has answered when a worker is killed."""


@pytest.mark.alone
@pytest.mark.timeout(600)
async def test_ten_thousand_texts_survive_three_killed_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each text has its vector, in order; a batch was asked again only where nobody knows what became of it."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(DevServer(ServerOptions(port=0, ui_port=None, data=None)))
        provider = await stack.enter_async_context(Provider("openai", options=("--latency-ms", "400")))
        await provider.ready()
        env = environment(server)
        monkeypatch.setenv("TEMPORAL_ADDRESS", server.address)
        dispatcher = await stack.enter_async_context(Dispatcher.connect())
        worker = await started(env)
        model = ModelSpec(name="openai/text-embedding-3-small", api_base=provider.api_base)
        embedding = asyncio.create_task(dispatcher.embed(model, TEXTS, call_id="corpus"))
        for count in KILL_AFTER:
            while await answered(provider) < count and not embedding.done():
                await asyncio.sleep(0.05)
            worker.signal(signal.SIGKILL)
            await worker.wait()
            worker = await started(env)
        stack.push_async_callback(worker.stop, 1.0)
        found = await embedding
        asked = Counter(tuple(record["body"]["input"]) for record in await journal(provider.root))

    assert len(found.vectors) == len(TEXTS)
    for text, vector in zip(TEXTS, found.vectors, strict=True):
        assert vector == Vectors.pack([build_mock_embedding(text)]).rows()[0]
    assert sorted(text for batch in asked for text in batch) == sorted(TEXTS)
    again = {batch: times - 1 for batch, times in asked.items() if times > 1}
    lost = [[entry for entry in call.attempts if entry.category == "worker_lost"] for call in found.calls]
    assert all(entry.outcome == "unknown" for entries in lost for entry in entries)
    assert all(len(call.attempts) == len(entries) + 1 for call, entries in zip(found.calls, lost, strict=True))
    assert sum(again.values()) <= sum(map(len, lost))  # a lost worker may not have sent its request
    assert again, "no worker was killed while it asked"
    print(f"{len(asked)} batches, {sum(again.values())} asked again, {sum(map(len, lost))} attempts lost with a worker")
