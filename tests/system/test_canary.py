"""Planted keys are nowhere to be seen.

Keys stand wherever one can enter, calls fail in every way that repeats them, and everything that anybody can read
afterwards is searched for them, and for the prompt where it has no business.
"""

import asyncio
import json
import logging
import pickle
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from durable_llm import Dispatcher, DurableLLMError, LLMConfig, ModelSpec, Policy
from tests.support import canary as canaries
from tests.support.canary import FIRST, OTHER, OWN, PASSWORD, PROMPT, SECOND, TEAM, UNUSED, Canary, Mount
from tests.support.cli import run
from tests.support.otlp_receiver import Receiver, receiving
from workers.dev.children import Child
from workers.dev.stack import WORKER_COMMAND, WORKER_READY

pytestmark = pytest.mark.timeout(300)  # a worker, seven calls and six runs of the command line, on a busy machine
QUEUE = "canary"
MODEL = "openai/gpt-4o-mini"
ENDS = Policy(patience=timedelta(0))


@dataclass
class Seen:
    """All that can be read after the calls, by where."""

    texts: dict[str, str] = field(default_factory=dict)
    without_prompts: dict[str, str] = field(default_factory=dict)
    """The same, without the two arguments of a history that are to hold the prompt."""
    heard: list[str] = field(default_factory=list)
    """The keys that the provider was sent."""
    calls: list[str] = field(default_factory=list)

    def add(self, place: str, text: str, without_prompt: str | None = None) -> None:
        """Note a text."""
        self.texts[place] = self.texts.get(place, "") + text
        self.without_prompts[place] = self.without_prompts.get(place, "") + (without_prompt or text)


def environment(server: WorkflowEnvironment, otlp: Receiver, secrets: Path) -> dict[str, str]:
    """A worker's environment full of keys, with everything that logs told to log all that it can."""
    return {
        "TEMPORAL_ADDRESS": server.client.service_client.config.target_host,
        "TEMPORAL_API_KEY": OTHER.key,
        "TEMPORAL_TLS": "false",
        "DURABLE_LLM_TASK_QUEUE": QUEUE,
        "DURABLE_LLM_API_BASE_HOSTS": "127.0.0.1",
        "DURABLE_LLM_KEYS": "TEAM_API_KEY=127.0.0.1, secrets/team=127.0.0.1",
        "DURABLE_LLM_SECRETS_DIR": str(secrets),
        "OPENAI_API_KEY": OWN.key,
        "TEAM_API_KEY": f"{TEAM.key}\n",
        "ANTHROPIC_API_KEY": OTHER.key,
        "DATABASE_URL": f"postgres://user:{PASSWORD.key}@db/x",
        "HTTPS_PROXY": f"http://user:{PASSWORD.key}@127.0.0.1:1",
        "NO_PROXY": "127.0.0.1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "DURABLE_LLM_LOG_LEVEL": "DEBUG",
        "LITELLM_LOG": "DEBUG",
        "OPENAI_LOG": "debug",
        "PYTHONASYNCIODEBUG": "1",
    }


@asynccontextmanager
async def worker_with(env: dict[str, str], output: list[str]) -> AsyncIterator[Child]:
    """A worker process whose output goes to `output`; it has been drained when the block is left."""
    worker = await Child.start("the worker", WORKER_COMMAND, env=env, on_line=output.append)
    try:
        async with asyncio.timeout(100):
            while not any(line.startswith(WORKER_READY) for line in output):
                await asyncio.sleep(0.1)
        yield worker
    finally:
        await worker.stop()


@pytest.fixture(scope="module")
async def seen(server_env: WorkflowEnvironment, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What can be read after calls on a worker that knows the planted keys, at a provider that repeats them."""
    found, output, mount = Seen(), [], Mount(tmp_path_factory.mktemp("secrets"))
    mount.put(team=FIRST.key, unused="not yet the key")
    with receiving() as otlp, logged() as log:
        async with (
            canaries.echoing() as (address, found.heard),
            worker_with(environment(server_env, otlp, mount.place), output),
            Dispatcher(server_env.client, task_queue=QUEUE) as dispatcher,
        ):
            await Calls(dispatcher, address, found).play(mount)
            for call_id in found.calls:
                await look(server_env.client, call_id, found)
            await look_by_command_line(server_env.client, found)
        for number, body in enumerate(otlp.bodies):
            found.add(f"telemetry {number}", body.decode(errors="replace"))
        assert len(otlp.spans) > len(canaries.ECHOES)
    found.add("the worker's output", "\n".join(output))
    found.add("the client's log", log.getvalue())
    return found


@contextmanager
def logged() -> Iterator[StringIO]:
    """Everything that this process logs, at DEBUG."""
    text, root = StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(text), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield text
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


class Calls:
    """The calls that are made."""

    def __init__(self, dispatcher: Dispatcher, address: str, found: Seen) -> None:
        self._dispatcher = dispatcher
        self._address = address
        self._found = found

    async def play(self, mount: Mount) -> None:
        """Every way to fail, then an answer; then files, before and after a rotation."""
        team = [self.spec(way, "os.environ/TEAM_API_KEY") for way in canaries.ECHOES]
        streamed = self.spec("event", "os.environ/TEAM_API_KEY", extra_params={"stream": True})
        slow = self.spec("slow", "os.environ/TEAM_API_KEY", timeout=1.5)
        await self.ask([*team, streamed, slow])
        await self.ask([self.spec("answer", "os.environ/TEAM_API_KEY")])
        await self.ask([self.spec("whole", "secrets/team")])
        mount.put(team=SECOND.key, unused=UNUSED.key)
        await self.ask([self.spec("whole", "secrets/team"), self.spec("other", "secrets/team")])
        await self.ask([self.spec("answer", "secrets/team")])
        await self.ask([self.spec("whole", "os.environ/ANTHROPIC_API_KEY"), ModelSpec(name=MODEL, timeout=5)])

    def spec(self, way: str, key: str, **fields: object) -> ModelSpec:
        """A model that is asked in this way."""
        if way == "queued":
            fields |= {"responses_api": True, "background": True}
        return ModelSpec(name=MODEL, api_base=f"{self._address}/{way}/v1", api_key=key, max_retries=0, **fields)

    async def ask(self, chain: list[ModelSpec]) -> None:
        """Make one call; keep what its caller gets, in every form."""
        config = LLMConfig(models=chain)
        tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
        handle = await self._dispatcher.submit(
            config, PROMPT, tools=tools, session="s", metadata={"k": "v"}, policy=ENDS
        )
        self._found.calls.append(handle.call_id)
        try:
            got: object = await handle.result()
            shown = repr(got)
        except DurableLLMError as error:
            got, shown = error, f"{error!r} {error} {error.attempts!r} {getattr(error, 'last_error', None)}"
        self._found.add("what the caller gets", f"{shown} {pickle.dumps(got).decode(errors='replace')}")


async def look(client: Client, call_id: str, found: Seen) -> None:
    """Note all that Temporal and the command line tell of a call."""
    handle = client.get_workflow_handle(call_id)
    history = (await handle.fetch_history()).to_json_dict()
    found.add(
        f"history of {call_id}",
        json.dumps(history) + " ".join(canaries.decoded(history)),
        " ".join(canaries.decoded(canaries.without_prompts(history["events"]))),
    )
    description = await handle.describe()
    found.add(
        "description", f"{description.raw_description} {await description.memo()} {description.search_attributes}"
    )
    details = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    found.add("details in the UI", details.current_details)


async def look_by_command_line(client: Client, found: Seen) -> None:
    """Note what the command line prints of a call that failed and of one that was answered."""
    failed, answered = found.calls[:2]
    for command in (
        ["show", failed], ["show", failed, "--json"], ["result", failed, "--json"], ["show", answered, "--json"],
        ["result", answered, "--json"], ["list", "--json"],
    ):  # fmt: skip
        end = await run(*command, TEMPORAL_ADDRESS=client.service_client.config.target_host)
        assert end.status in (0, 1), end
        found.add(" ".join(["durable-llm", *command]), end.out + end.err)


def test_the_calls_went_where_they_should(seen: Seen) -> None:
    """The search is worth something only if the provider heard the keys; a rotated file counts from the next attempt."""
    assert seen.heard == [TEAM.key] * (len(canaries.ECHOES) + 3) + [FIRST.key] + [SECOND.key] * 3
    assert "4 401" not in seen.texts["what the caller gets"]


@pytest.mark.parametrize("planted", canaries.ALL, ids=lambda canary: canary.key[:2])
def test_a_planted_key_is_nowhere(seen: Seen, planted: Canary) -> None:
    """Not in histories, memos, attributes, details, logs, spans, metrics, errors, nor on the command line."""
    leaks = {place: signs for place, text in seen.texts.items() if (signs := planted.seen_in(text))}
    assert leaks == {}


def test_the_prompt_is_only_where_it_must_be(seen: Seen) -> None:
    """Two arguments in the history hold it: no summary, no attribute, no log, no span and no error text does."""
    places = [place for place, text in seen.without_prompts.items() if any(
        PROMPT[at : at + 24] in text for at in range(len(PROMPT) - 24)
    )]  # fmt: skip
    assert places == []
