"""Every example runs as it stands, against a real server and worker; what it claims to survive, it survives."""

import ast
import asyncio
import itertools
import json
import random
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from aiohttp import web
from temporalio.testing import WorkflowEnvironment

from durable_llm import Dispatcher
from durable_llm.contract.names import TASK_QUEUE
from tests.support import ROOT
from tests.support.bodies import choice, openai
from tests.support.processes import kill, outcome, ready, start, worker
from workers.dev.ports import free_port

CALLS_TOOL = choice(
    "tool_calls",
    tool_calls=[
        {"id": "call_1", "type": "function", "function": {"name": "multiply", "arguments": '{"a": 6, "b": 7}'}}
    ],
)


class Provider:
    """A model that calls the tool it is offered, and then answers with the number of messages that it was sent."""

    def __init__(self) -> None:
        self.asked = 0
        self.tool_steps = 1
        """How often it calls the tool before it answers."""
        self.second = asyncio.Event()
        """Set when the second request has arrived."""
        self.answers = asyncio.Event()
        """Answers come once it is set."""
        self.url = ""
        self._held = (0, asyncio.Event())
        self.over = asyncio.Event()

    def hold(self, number: int) -> asyncio.Event:
        """Never answer the request of this number; the event is set when it has arrived."""
        self._held = (number, asyncio.Event())
        return self._held[1]

    async def complete(self, request: web.Request) -> web.Response:
        """One chat completion."""
        self.asked += 1
        if self.asked == self._held[0]:
            self._held[1].set()
            await self.over.wait()
        asked = await request.json()
        if asked.get("tools") and len(asked["messages"]) < 2 * self.tool_steps:
            return web.json_response(openai(CALLS_TOOL))
        if self.asked == 2:
            self.second.set()
        await self.answers.wait()
        return web.json_response(openai(text=f"{len(asked['messages'])} messages"))


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    """A provider on loopback."""
    model, app = Provider(), web.Application()
    app.router.add_post("/v1/chat/completions", model.complete)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port := free_port())
    await site.start()
    model.url = f"http://127.0.0.1:{port}/v1"
    yield model
    model.answers.set()
    model.over.set()
    await runner.cleanup()


@asynccontextmanager
async def example(
    name: str, *arguments: str, env: WorkflowEnvironment, provider: Provider, heartbeat_s: int = 60
) -> AsyncIterator[Process]:
    """An example as a process; killed if it still runs at the end."""
    address = env.client.service_client.config.target_host
    process = await start(
        "-m", *name.split(), *arguments, TEMPORAL_ADDRESS=address, MODEL="openai/local", API_BASE=provider.url,
        DURABLE_LLM_API_BASE_HOSTS="127.0.0.1", DURABLE_LLM_HEARTBEAT_TIMEOUT_S=str(heartbeat_s),
    )  # fmt: skip
    try:
        yield process
    finally:
        await kill(process)


@pytest.fixture
async def service(server_env: WorkflowEnvironment) -> AsyncIterator[None]:
    """A worker on the queue that every caller uses by default."""
    async with worker(server_env, TASK_QUEUE):
        yield


@pytest.mark.usefixtures("service")
async def test_the_smallest_program_prints_its_answer(server_env: WorkflowEnvironment, provider: Provider) -> None:
    """The answer, and what it took."""
    provider.answers.set()
    async with example("examples.one_call", "Name a prime.", env=server_env, provider=provider) as process:
        status, printed = await outcome(process)
    assert (status, printed.splitlines()[0]) == (0, "1 messages")
    assert "1 attempt(s)" in printed


@pytest.mark.usefixtures("service")
async def test_an_agent_survives_its_own_death(server_env: WorkflowEnvironment, provider: Provider) -> None:
    """Killed while its second step is asked, and started again from its first line: each step is asked once."""
    arguments = ("examples.agent", "job-1", "What is 6 times 7?")
    async with example(*arguments, env=server_env, provider=provider) as first:
        await asyncio.wait_for(provider.second.wait(), 60)
        await kill(first)
    async with example(*arguments, env=server_env, provider=provider) as second:
        line = await asyncio.wait_for(second.stdout.readline(), 60)
        provider.answers.set()
        status, printed = await outcome(second)
    assert (status, line, printed) == (0, b"6 x 7\n", "answer: 3 messages\n")
    assert provider.asked == 2


def test_the_agent_is_of_thirty_lines_and_names_no_ids() -> None:
    """What makes it survive is not in it: a reader finds the tool, the loop, and the job's name."""
    source = (ROOT / "examples" / "agent.py").read_text()
    described = {
        number
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Module | ast.AsyncFunctionDef) and ast.get_docstring(node)
        for number in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)
    }
    lines = [line for number, line in enumerate(source.splitlines(), 1) if line.strip() and number not in described]
    assert len(lines) <= 30
    assert "call_id" not in source.replace("tool_call_id", "")


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("service")
async def test_an_agent_survives_kills_at_twenty_random_moments(
    server_env: WorkflowEnvironment, provider: Provider
) -> None:
    """However often it is killed, its answer is that of a run in peace, and no step is asked twice."""
    provider.tool_steps, moments, kills = 5, random.Random(446), 0  # noqa: S311  # no secret
    provider.answers.set()
    async with example("examples.agent", "in-peace", "Multiply.", env=server_env, provider=provider) as process:
        began = time.monotonic()
        in_peace = await outcome(process)
        lifetime = time.monotonic() - began
    assert (in_peace[0], in_peace[1].count(" x "), provider.asked) == (0, 5, 6)
    for job in itertools.count():
        if kills >= 20:
            break
        provider.asked = 0
        while True:
            async with example(
                "examples.agent", f"job-{job}", "Multiply.", env=server_env, provider=provider
            ) as process:
                try:
                    async with asyncio.timeout(moments.uniform(0, lifetime) if kills < 20 else None):
                        ended = await outcome(process)
                except TimeoutError:
                    kills += 1
                    continue
            break
        assert (ended, provider.asked) == (in_peace, 6)
    print(f"{kills} kills, {job} jobs of 6 requests each")


@pytest.mark.usefixtures("service")
async def test_a_fan_out_gets_every_answer(server_env: WorkflowEnvironment, provider: Provider) -> None:
    """A hundred prompts, a hundred lines; run again, the same lines without a request."""
    provider.answers.set()
    for _ in range(2):
        async with example("examples.fan_out", "job-2", env=server_env, provider=provider) as process:
            status, printed = await outcome(process)
        assert status == 0
        assert sorted(printed.splitlines()) == sorted(f"{number}: 1 messages" for number in range(100))
    assert provider.asked == 100


@pytest.mark.usefixtures("service")
async def test_a_web_handler_submits_and_polls(server_env: WorkflowEnvironment, provider: Provider) -> None:
    """An id at once, a status while the model thinks, then the answer; an unknown id is a 404."""
    port = str(free_port())
    async with (
        example("uvicorn examples.web_handler:app", "--port", port, env=server_env, provider=provider) as process,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http,
    ):
        async for line in process.stderr:
            if b"running on" in line:
                break
        submitted = await http.post("/answers", params={"question": "Name a prime."})
        place = f"/answers/{submitted.json()['id']}"
        thinking = await http.get(place)
        provider.answers.set()
        while "answer" not in (polled := (await http.get(place)).json()):
            await asyncio.sleep(0.05)
        unknown = await http.get("/answers/nobody")
    assert (submitted.status_code, unknown.status_code) == (202, 404)
    assert json.dumps(thinking.json()).startswith('{"status": ')
    assert polled == {"answer": "1 messages"}


async def test_a_worker_of_ones_own_answers_calls(server_env: WorkflowEnvironment, provider: Provider) -> None:
    """Its own workflow and durable calls, on its own task queue."""
    provider.answers.set()
    async with example("examples.host_worker", env=server_env, provider=provider) as process:
        await ready(process)
        client = server_env.client
        assert await client.execute_workflow("Greeting", "host", id="greeting", task_queue="mine") == "hello, host"
        async with Dispatcher(client, task_queue="mine") as dispatcher:
            model = {"name": "openai/local", "api_base": provider.url}
            assert (await dispatcher.call(model, "Name a prime.")).text == "1 messages"


async def test_an_agent_that_is_a_workflow_survives_its_worker(
    server_env: WorkflowEnvironment, provider: Provider
) -> None:
    """Killed while a request of its third step is open: six steps, each asked once but for the one that was lost."""
    provider.tool_steps = 5
    provider.answers.set()
    client, held = server_env.client, provider.hold(3)
    async with example("examples.workflow_agent", env=server_env, provider=provider, heartbeat_s=3) as first:
        await asyncio.wait_for(first.stdout.readline(), 60)
        handle = await client.start_workflow("Agent", "Multiply.", id="workflow-agent", task_queue="agents")
        await asyncio.wait_for(held.wait(), 60)
        await kill(first)
    async with example("examples.workflow_agent", env=server_env, provider=provider, heartbeat_s=3):
        assert await asyncio.wait_for(handle.result(), 60) == "11 messages"
        steps = [event async for event in handle.fetch_history_events() if event.event_type == 29]
    assert len(steps) == 6
    assert provider.asked == 7
