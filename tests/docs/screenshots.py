"""The pictures in the documents: real calls in the real UI, taken by headless Chromium.

`python -m tests.docs.screenshots [NAME...]` runs Temporal, a simulated provider and a worker, makes calls that fail in different
ways, and writes docs/images/*.png, or those that are named. It needs a `chromium` on PATH.
"""

import asyncio
import os
import shutil
import sys
import tempfile
from asyncio.subprocess import DEVNULL
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from durable_llm import Dispatcher, DurableLLMError, LLMConfig, ModelSpec, Policy
from tests.harness.parts.provider import Behavior, Provider
from tests.support.calls import until_parked
from workers.dev.children import Child
from workers.dev.server import DevServer, ServerOptions

IMAGES = Path("docs/images")
TROUBLED = "report/chapter-3"
STEERED = "night/1"


def fail(model: str, status: int, message: str, **fields: Any) -> Behavior:
    """One scripted failure of one model."""
    return {"type": "fail", "match": {"model": model}, "status": status, "message": message, **fields}


BEHAVIORS = [
    fail("gpt-4.1", 429, "Rate limit reached for gpt-4.1 on requests per min.", retry_after=2),
    fail("gpt-4.1", 503, "The engine is currently overloaded, please try again later."),
    fail("gpt-4.1", 429, "You exceeded your current quota, please check your plan.", code="insufficient_quota"),
    fail("gpt-4o", 401, "Incorrect API key provided.", times=None),
]


async def take() -> None:
    """Make the calls and take the pictures."""
    os.environ["DURABLE_LLM_API_BASE_HOSTS"] = "127.0.0.1"
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(DevServer(ServerOptions(port=0, ui_port=0, data=None)))
        provider = await stack.enter_async_context(Provider("openai"))
        await provider.ready()
        await provider.script(BEHAVIORS)
        worker = await Child.start("worker", [sys.executable, "-m", "workers"], env=server.env)
        stack.push_async_callback(worker.stop)
        os.environ["TEMPORAL_ADDRESS"] = server.address
        dispatcher = await stack.enter_async_context(Dispatcher.connect())
        run_id = await make_calls(dispatcher, provider.api_base)
        workflows = f"{server.ui_url}/namespaces/default/workflows"
        call = f"{workflows}/{quote(TROUBLED, safe='')}/{run_id}"
        await picture(f"{call}/timeline", "call", height=1350)
        await picture(f"{call}/user-metadata", "ledger", height=850)
        query = quote("`LLMOutcome`='exhausted'", safe="")
        await picture(f"{workflows}?query={query}", "exhausted", height=600)
        run_id = await steer_calls(dispatcher, provider.api_base)
        query = quote("`LLMOutcome`='parked'", safe="")
        await picture(f"{workflows}?query={query}", "parked", height=600)
        await picture(f"{workflows}/{quote(STEERED, safe='')}/{run_id}/user-metadata", "steered", height=850)


async def make_calls(dispatcher: Dispatcher, api_base: str) -> str:
    """Calls that fail in several ways, and some that do not; the run id of the one that meets three failures."""
    chain = LLMConfig(models=[spec("openai/gpt-4.1", api_base), spec("openai/gpt-4o-mini", api_base)])
    handle = await dispatcher.submit(chain, "Summarise chapter 3.", call_id=TROUBLED, session="report")
    await handle.result()
    for chapter in (1, 2):
        await dispatcher.call(spec("openai/gpt-4o-mini", api_base), "Summarise.", call_id=f"report/chapter-{chapter}")
    for chapter in (4, 5):
        with suppress(DurableLLMError):
            await dispatcher.call(spec("openai/gpt-4o", api_base), "Summarise.", call_id=f"report/chapter-{chapter}")
    description = await dispatcher.client.get_workflow_handle(TROUBLED).describe()
    return description.run_id


async def steer_calls(dispatcher: Dispatcher, api_base: str) -> str:
    """Calls that are parked; the run id of the one that an operator has given another model."""
    parks = Policy(on_exhausted="park")
    for number in range(1, 5):
        handle = await dispatcher.submit(
            spec("openai/gpt-4o", api_base), "Summarise.", call_id=f"night/{number}", session="night", policy=parks
        )
        await until_parked(handle)
    steered = dispatcher.attach(STEERED)
    await steered.replace(spec("openai/gpt-4o-mini", api_base), by="ann", why="the key of gpt-4o was revoked")
    await steered.resume(by="ann", why="it has another model now")
    await steered.result()
    return (await dispatcher.client.get_workflow_handle(STEERED).describe()).run_id


def spec(name: str, api_base: str) -> ModelSpec:
    """A model at the simulated provider."""
    return ModelSpec(name=name, api_base=api_base)


async def picture(address: str, name: str, *, height: int) -> None:
    """One page as docs/images/NAME.png, if it is wanted."""
    if sys.argv[1:] and name not in sys.argv[1:]:
        return
    browser = shutil.which("chromium") or sys.exit("chromium is not on PATH")
    with tempfile.TemporaryDirectory() as profile:
        process = await asyncio.create_subprocess_exec(
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
            f"--user-data-dir={profile}", f"--window-size=1500,{height}", "--virtual-time-budget=15000",
            f"--screenshot={IMAGES / name}.png", address, stdout=DEVNULL, stderr=DEVNULL,
        )  # fmt: skip
        await process.wait()
    print(f"{IMAGES / name}.png")


if __name__ == "__main__":
    IMAGES.mkdir(parents=True, exist_ok=True)
    asyncio.run(take())
    sys.stdout.flush()
    os._exit(0)
