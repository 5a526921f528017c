"""A front in the test's process, and the clients of its callers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import uvicorn
import yaml

from durable_llm import Dispatcher
from durable_llm.client.tokens import Token
from workers.front.access import Chains
from workers.front.app import make_app
from workers.front.batches.endpoints import BatchEndpoints
from workers.front.batches.files import Files
from workers.front.batches.run import Batches
from workers.front.batches.worker import batch_worker, queue_of
from workers.front.front import Front
from workers.http import listening

HI = [{"role": "user", "content": "Hi."}]
FILE = {
    "fast": {"models": ["openai/gpt-4o-mini"], "policy": {"patience": 0}, "priority": 2},
    "slow": {"models": [{"name": "openai/gpt-4o", "max_retries": 0, "extra_params": {"temperature": 0.5}}]},
}


class Served:
    """A front that listens, and the client of its caller."""

    def __init__(self, front: Front, address: str, token: str) -> None:
        self.front = front
        self.address = address
        self.http = httpx.AsyncClient(base_url=address, headers={"authorization": f"Bearer {token}"}, timeout=60)
        self.openai = openai.AsyncOpenAI(base_url=f"{address}/v1", api_key=token)

    async def ask(
        self, model: str = "fast", prompt: str = "Hi.", key: str | None = None, **body: Any
    ) -> httpx.Response:
        headers = {"idempotency-key": key} if key is not None else {}
        messages = [{"role": "user", "content": prompt}]
        return await self.http.post(
            "/v1/chat/completions", json={"model": model, "messages": messages, **body}, headers=headers
        )


@asynccontextmanager
async def serving(
    dispatcher: Dispatcher, *, tokens: list[Token] | None = None, token: str = "", models: bool = False, **options: Any
) -> AsyncIterator[Served]:
    """A front in this process, on a port of its own."""
    chains = Chains(models=models)
    front = Front(dispatcher, chains, tokens)
    files = Files(dispatcher.store, dispatcher.client.data_converter)
    endpoints = BatchEndpoints(front, files, dispatcher.client, queue_of(dispatcher.task_queue))
    app = make_app(front, endpoints, options.get("max_body_bytes", 1_000_000))
    config = uvicorn.Config(app, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # the test's process keeps its own
    with listening("127.0.0.1", 0, "PORT") as listener:
        running = asyncio.create_task(server.serve(sockets=[listener]))
        served = Served(front, f"http://127.0.0.1:{listener.getsockname()[1]}", token or "none")
        while not server.started:
            await asyncio.sleep(0.01)
        runs = None
        if dispatcher.store is not None and options.get("runs", True):  # Temporal allows one in a process
            runs = batch_worker(dispatcher.client, dispatcher.task_queue, Batches(dispatcher, chains, files))
        try:
            async with runs if runs is not None else nullcontext():
                yield served
        finally:
            await served.http.aclose()
            await served.openai.close()
            server.should_exit = True
            await running


def write_chain(directory: Path, monkeypatch: pytest.MonkeyPatch, api_base: str) -> None:
    """The chain `fast`, which asks the provider at this address."""
    chain = {"fast": {"models": [{"name": "openai/gpt-4o-mini", "api_base": api_base}]}}
    (directory / "chains.yaml").write_text(yaml.safe_dump(chain))
    monkeypatch.setenv("DURABLE_LLM_CHAINS", str(directory / "chains.yaml"))
