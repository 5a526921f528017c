"""Calls from inside a workflow: as a child, or over a Nexus endpoint."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from pydantic import BaseModel
from temporalio import workflow
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client, WorkflowFailureError, WorkflowHistory
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Replayer, Worker

from durable_llm import AllModelsExhaustedError, CallConflictError, Dispatcher, data_converter
from durable_llm import workflow as llm
from durable_llm.contract.content import ContentReference
from durable_llm.contract.request import Prompt
from durable_llm.store import open_store
from durable_llm.store.content import from_content, get_content
from tests.support.callers import RECORDED, Caller
from tests.support.calls import until_waiting
from tests.support.encryption import client_with, keys
from tests.support.scripted import ScriptedProvider, Step, answer, fresh_id, http_error, never
from workers.plugin import DurableLLMPlugin, readable_converter
from workers.settings import WorkerSettings

MODEL = "openai/gpt-4o-mini"


class City(BaseModel):
    name: str


@workflow.defn(name="Asks")
class Asks:
    """Asks as its input says, one after the other."""

    def __init__(self) -> None:
        self.caught = ""

    @workflow.run
    async def run(self, calls: list[dict[str, Any]]) -> list[str | None]:
        texts = []
        for given in calls:
            options = {**given, "response_format": City} if given.pop("typed", False) else given
            catches = options.pop("catches", False)
            try:
                result = await llm.call(MODEL, options.pop("prompt"), **options)
                texts.append(result.parsed.name if "response_format" in options else result.text)
            except (AllModelsExhaustedError, CallConflictError) as error:
                if not catches:
                    raise
                texts.append(f"{type(error).__name__} {len(error.attempts)} {error.call_id}")
        return texts


@workflow.defn(name="Repeats")
class Repeats:
    """Makes a prompt of its own, so that only the input of its call can hold that."""

    @workflow.run
    async def run(self, size: int) -> str | None:
        return (await llm.call(MODEL, "x" * size)).text


class Agents:
    """A worker with the plugin, and its scripted provider."""

    def __init__(self, client: Client, queue: str, provider: ScriptedProvider) -> None:
        self.client = client
        self.queue = queue
        self.provider = provider

    async def start(self, *calls: dict[str, Any]) -> Any:
        return await self.client.start_workflow(Asks.run, list(calls), id=fresh_id(), task_queue=self.queue)

    async def ask(self, *calls: dict[str, Any]) -> list[str | None]:
        return await (await self.start(*calls)).result()


@asynccontextmanager
async def agents(env: WorkflowEnvironment, *steps: Step, store: str = "", **worker: Any) -> AsyncIterator[Agents]:
    """A worker of a user's own: sandboxed workflows, with the plugin."""
    provider, queue = ScriptedProvider(steps), f"test-{uuid.uuid4()}"
    plugin = DurableLLMPlugin(WorkerSettings(store=store), attempts=provider)
    async with Worker(env.client, task_queue=queue, workflows=[Asks, Repeats], plugins=[plugin], **worker):
        yield Agents(env.client, queue, provider)


async def test_a_workflow_gets_an_answer(server_env: WorkflowEnvironment) -> None:
    """From a child workflow whose id begins with its own; structured output is parsed."""
    async with agents(server_env, answer("2"), answer('{"name": "Oslo"}', structured=True)) as asking:
        handle = await asking.start({"prompt": "Name a prime."}, {"prompt": "Which city?", "typed": True})
        assert await handle.result() == ["2", "Oslo"]
        children = [
            event.start_child_workflow_execution_initiated_event_attributes.workflow_id
            async for event in handle.fetch_history_events()
            if event.HasField("start_child_workflow_execution_initiated_event_attributes")
        ]
    assert len(children) == 2
    assert all(child.startswith(f"{handle.id}/llm-") for child in children)


async def test_a_failed_call_is_a_typed_error(server_env: WorkflowEnvironment) -> None:
    """With its ledger where the workflow catches it; where it does not, the workflow fails instead of being stuck."""
    async with agents(server_env, http_error(401, text="no such key")) as asking:
        [caught] = await asking.ask({"prompt": "Hi.", "call_id": (call_id := fresh_id()), "catches": True})
        assert caught == f"AllModelsExhaustedError 1 {call_id}"
        with pytest.raises(WorkflowFailureError) as failed:
            await asking.ask({"prompt": "Hi."})
    assert isinstance(failed.value.cause, ApplicationError)
    assert failed.value.cause.type == "AllModelsExhaustedError"


async def test_what_is_wrong_fails_the_workflow_before_anything_is_sent(server_env: WorkflowEnvironment) -> None:
    """A bad request and an option that makes no sense here are named."""
    async with agents(server_env, answer("2")) as asking:
        for call, says in [
            ({"prompt": ""}, "messages"),
            ({"prompt": "Hi.", "if_failed": "rerun"}, "if_failed"),
            ({"prompt": "Hi.", "metadata": {"key": "sk-proj-" + "a1B2" * 12}}, "metadata"),
        ]:
            with pytest.raises(WorkflowFailureError) as failed:
                await asking.ask(call)
            assert says in str(failed.value.cause)
    assert not asking.provider.orders


@pytest.mark.parametrize("over", ["child", "endpoint"])
async def test_a_workflow_waits_for_a_call_whose_deadline_is_extended(
    server_env: WorkflowEnvironment, over: str
) -> None:
    """It gets the answer of the call's last run."""
    async with agents(server_env, http_error(429, retry_after_s=50.0), answer("2")) as asking:
        call = {"prompt": "Name a prime.", "call_id": (call_id := fresh_id())}
        if over == "endpoint":
            await server_env.create_nexus_endpoint(endpoint := f"llm-{uuid.uuid4()}", asking.queue)
            call["endpoint"] = endpoint
        handle = await asking.start(call)
        while not asking.provider.orders:
            await asyncio.sleep(0.05)
        asked = Dispatcher(asking.client, task_queue=asking.queue).attach(call_id)
        await until_waiting(asked)
        await asked.extend(timedelta(days=2), why="it takes longer")
        await asked.retry(why="it is back")
        assert await handle.result() == ["2"]
        assert len(await asked.attempts()) == 2


async def test_cancellation_passes_down_and_a_close_does_not(server_env: WorkflowEnvironment) -> None:
    """A cancelled workflow cancels its call; a terminated one leaves it running: it may be paid already."""
    async with agents(server_env, never) as asking:
        dispatcher = Dispatcher(asking.client, task_queue=asking.queue)
        for end in ("cancel", "terminate"):
            handle = await asking.start({"prompt": "Think.", "call_id": (call_id := fresh_id())})
            while len(asking.provider.orders) < (1 if end == "cancel" else 2):
                await asyncio.sleep(0.05)
            await getattr(handle, end)()
            with pytest.raises(WorkflowFailureError) as failed:
                await handle.result()
            call = dispatcher.attach(call_id)
            if end == "cancel":
                assert isinstance(failed.value.cause, CancelledError)
                assert (await call.status()).outcome == "cancelled"
            else:
                assert (await call.status()).outcome == "running"
                await call.cancel()
        await dispatcher.close()


async def test_a_taken_id_is_a_conflict(server_env: WorkflowEnvironment) -> None:
    """A child cannot attach; the error says what can."""
    async with agents(server_env, answer("2")) as asking:
        taken = {"prompt": "Hi.", "call_id": fresh_id(), "catches": True}
        assert await asking.ask(dict(taken), dict(taken)) == ["2", f"CallConflictError 0 {taken['call_id']}"]


def kept_in(directory: Path) -> list[Path]:
    """The files of a store."""
    return [path for path in directory.rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", [1_000, 100_000, 3_000_000])
async def test_the_history_grows_by_a_pointer(server_env: WorkflowEnvironment, tmp_path: Path, size: int) -> None:
    """With a store, a prompt of any size takes a kilobyte of the parent's history, and arrives whole."""
    async with agents(server_env, answer("2"), store=tmp_path.as_uri()) as asking:
        handle = await asking.client.start_workflow(Repeats.run, size, id=fresh_id(), task_queue=asking.queue)
        assert await handle.result() == "2"
        bytes_ = (await handle.describe()).raw_description.workflow_execution_info.history_size_bytes
        history = await handle.fetch_history()
    assert bytes_ < 6_000
    [prompt] = asking.provider.prompts
    if size < 4096:
        assert isinstance(prompt, Prompt)
        assert not kept_in(tmp_path)
    else:
        assert isinstance(prompt, ContentReference)
        assert prompt.size > size
        [kept] = kept_in(tmp_path)
        kept.unlink()
    # A replay needs no store, and puts nothing there.
    converter = readable_converter(None)
    replayer = Replayer(workflows=[Repeats], plugins=[DurableLLMPlugin(WorkerSettings())], data_converter=converter)
    await replayer.replay_workflow(history)
    assert not kept_in(tmp_path)


async def test_without_a_store_the_prompt_is_in_the_history(server_env: WorkflowEnvironment) -> None:
    """Then it is limited as everywhere, and a larger one is refused with what to set."""
    async with agents(server_env, answer("2")) as asking:
        handle = await asking.client.start_workflow(Repeats.run, 100_000, id=fresh_id(), task_queue=asking.queue)
        assert await handle.result() == "2"
        bytes_ = (await handle.describe()).raw_description.workflow_execution_info.history_size_bytes
        assert 100_000 < bytes_ < 110_000
        with pytest.raises(WorkflowFailureError) as failed:
            await asking.client.execute_workflow(Repeats.run, 3_000_000, id=fresh_id(), task_queue=asking.queue)
    assert "DURABLE_LLM_STORE" in str(failed.value.cause)


async def test_over_nexus_the_same_id_attaches(server_env: WorkflowEnvironment) -> None:
    """Two workflows with one id ask once; a third gets the stored answer; another request is a conflict."""
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def held(_: object) -> object:
        asked.set()
        await may_answer.wait()
        return answer("once")

    async with agents(server_env, held, http_error(401, text="no such key")) as asking:
        endpoint = f"llm-{uuid.uuid4()}"
        await server_env.create_nexus_endpoint(endpoint, asking.queue)
        call = {"prompt": "Think.", "call_id": fresh_id(), "endpoint": endpoint}
        both = [await asking.start(dict(call)), await asking.start(dict(call))]
        await asked.wait()
        may_answer.set()
        assert [await handle.result() for handle in both] == [["once"], ["once"]]
        assert await asking.ask(dict(call)) == ["once"]
        other = {**call, "prompt": "Another.", "catches": True}
        assert await asking.ask(other) == [f"CallConflictError 0 {call['call_id']}"]
        assert len(asking.provider.orders) == 1
        failing = {"prompt": "Fail.", "call_id": fresh_id(), "endpoint": endpoint, "catches": True}
        for _ in range(2):
            assert await asking.ask(dict(failing)) == [f"AllModelsExhaustedError 1 {failing['call_id']}"]
        assert len(asking.provider.orders) == 2


async def test_over_nexus_a_cancelled_workflow_cancels_its_call(server_env: WorkflowEnvironment) -> None:
    """As with a child."""
    async with agents(server_env, never) as asking:
        endpoint = f"llm-{uuid.uuid4()}"
        await server_env.create_nexus_endpoint(endpoint, asking.queue)
        handle = await asking.start({"prompt": "Think.", "call_id": (call_id := fresh_id()), "endpoint": endpoint})
        while not asking.provider.orders:
            await asyncio.sleep(0.05)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await handle.result()
        async with Dispatcher(asking.client, task_queue=asking.queue) as dispatcher:
            while (await dispatcher.attach(call_id).status()).outcome == "running":
                await asyncio.sleep(0.05)
            assert (await dispatcher.attach(call_id).status()).outcome == "cancelled"


async def test_with_keys_the_store_holds_no_clear_text(
    server_env: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stored prompt is encrypted as a prompt in the history is, and the attempt reads it."""
    for name, value in keys("first").items():
        monkeypatch.setenv(name, value)
    store = open_store(tmp_path.as_uri())
    provider, queue = ScriptedProvider([answer("2")]), f"test-{uuid.uuid4()}"
    plugin = DurableLLMPlugin(WorkerSettings(store=tmp_path.as_uri()), attempts=provider)
    client = await client_with(server_env, "first")
    async with Worker(client, task_queue=queue, workflows=[Repeats], plugins=[plugin]):
        assert await client.execute_workflow(Repeats.run, 50_000, id=fresh_id(), task_queue=queue) == "2"
    [kept] = kept_in(tmp_path)
    assert b"xxxx" not in kept.read_bytes()
    [reference] = provider.prompts
    assert isinstance(reference, ContentReference)
    content = await get_content(store, reference)
    prompt = await from_content(client.config()["data_converter"], content, Prompt)
    assert prompt.messages[0]["content"] == "x" * 50_000


async def test_another_namespace_calls_over_nexus(server_env: WorkflowEnvironment) -> None:
    """A workflow there gets its answer from the workers here, and knows nothing of their queue."""
    other = f"other-{uuid.uuid4()}"
    await server_env.client.workflow_service.register_namespace(
        RegisterNamespaceRequest(namespace=other, workflow_execution_retention_period=Duration(seconds=86_400))
    )
    address = server_env.client.service_client.config.target_host
    theirs = await Client.connect(address, namespace=other, data_converter=data_converter())
    async with agents(server_env, answer("from here")) as ours:
        endpoint, queue = f"llm-{uuid.uuid4()}", f"theirs-{uuid.uuid4()}"
        await server_env.create_nexus_endpoint(endpoint, ours.queue)
        call = {"prompt": "Hi.", "endpoint": endpoint, "call_id": (call_id := fresh_id())}
        plugin = DurableLLMPlugin(WorkerSettings(), answers=False)
        async with Worker(theirs, task_queue=queue, workflows=[Asks], plugins=[plugin]):
            found = await _once_known(
                lambda: theirs.execute_workflow(Asks.run, [call], id=fresh_id(), task_queue=queue)
            )  # fmt: skip
        assert found == ["from here"]
        async with Dispatcher(ours.client, task_queue=ours.queue) as dispatcher:
            assert (await dispatcher.attach(call_id).result()).text == "from here"


async def _once_known(start: Callable[[], Awaitable[list[str | None]]]) -> list[str | None]:
    """The workflow's result; a server needs a moment until all of it knows a new namespace."""
    while True:
        try:
            return await start()
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
        await asyncio.sleep(0.1)


async def test_a_worker_may_only_call(server_env: WorkflowEnvironment) -> None:
    """Then others answer on their own queue, and it needs neither keys nor litellm."""
    plugin, queue = DurableLLMPlugin(WorkerSettings(), answers=False), f"callers-{uuid.uuid4()}"
    async with (
        agents(server_env, answer("2")) as answering,
        Worker(server_env.client, task_queue=queue, workflows=[Asks], plugins=[plugin]) as calling,
    ):
        call = {"prompt": "Hi.", "task_queue": answering.queue}
        found = await server_env.client.execute_workflow(Asks.run, [call], id=fresh_id(), task_queue=queue)
        assert not calling.config()["activities"]
    assert found == ["2"]


@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize("has_store", [True, False], ids=["here a store", "here none"])
async def test_a_recorded_caller_replays(name: str, tmp_path: Path, has_store: bool) -> None:
    """An upgrade breaks no workflow that calls, whether the worker that continues it has a store or not."""
    history = WorkflowHistory.from_json(f"caller-{name}", RECORDED[name].read_text())
    plugin = DurableLLMPlugin(WorkerSettings(store=tmp_path.as_uri() if has_store else ""), answers=False)
    replayer = Replayer(workflows=[Caller], plugins=[plugin], data_converter=readable_converter(None))
    await replayer.replay_workflow(history)
    assert not kept_in(tmp_path)


@workflow.defn(name="Logs")
class Logs:
    """Writes to loggers, as a user's workflow and its libraries do."""

    @workflow.run
    async def run(self) -> str:
        workflow.logger.warning("from the workflow")
        logging.getLogger("asyncio").error("from asyncio")
        return "logged"


async def test_a_sandboxed_workflow_logs_beside_litellm(server_env: WorkflowEnvironment) -> None:
    """Litellm filters every log record, and imports parts of itself for that: also inside a workflow."""
    from activities.litellm_setup import litellm

    assert litellm
    plugin, queue = DurableLLMPlugin(WorkerSettings(), answers=False), f"logs-{uuid.uuid4()}"
    async with Worker(server_env.client, task_queue=queue, workflows=[Logs], plugins=[plugin]):
        async with asyncio.timeout(60):
            ended = await server_env.client.execute_workflow(Logs.run, id=fresh_id(), task_queue=queue)
    assert ended == "logged"
