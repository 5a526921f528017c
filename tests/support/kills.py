"""A worker as a process that a test kills, and how far its provider has come."""

import asyncio
import sys

from tests.harness.parts.provider import Provider
from workers.dev.children import Child
from workers.dev.server import DevServer
from workers.dev.stack import WORKER_READY


def environment(server: DevServer) -> dict[str, str | None]:
    """The environment of workers that may ask loopback, and whose loss is soon noticed."""
    return {
        **server.env, "DURABLE_LLM_API_BASE_HOSTS": "127.0.0.1", "DURABLE_LLM_HEARTBEAT_TIMEOUT_S": "3",
        "DURABLE_LLM_LOG_LEVEL": "WARNING",
    }  # fmt: skip


async def started(env: dict[str, str | None]) -> Child:
    """A worker that polls."""
    ready = asyncio.Event()
    worker = await Child.start(
        "worker", [sys.executable, "-m", "workers"], env=env,
        on_line=lambda line: ready.set() if line.startswith(WORKER_READY) else None,
    )  # fmt: skip
    await ready.wait()
    return worker


async def answered(provider: Provider) -> int:
    """How many requests the provider has answered."""
    response = await provider._http.get("/_llmock/requests")
    return len(response.json()["requests"])
