"""Accounts and models that an operator holds: calls wait without an attempt, and go on when the hold ends."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import Client, WorkflowFailureError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from durable_llm import Dispatcher, InvalidRequestError, LLMConfig, ModelSpec
from durable_llm.client.handle import CallHandle
from durable_llm.contract.holds import Hold, hold_id
from durable_llm.contract.names import RESUME_SIGNAL, WAIT_SIGNAL
from tests.conftest import workflow_runner
from tests.support.calls import completion
from tests.support.cli import run
from tests.support.wire import Wire, playing
from workers.plugin import DurableLLMPlugin
from workers.settings import WorkerSettings
from workflows.hold import LLMHold

MODEL, OTHER = "openai/gpt-4o", "deepseek/deepseek-chat"
ANSWER = {"body": completion("7")}
WHO = {"by": "ann", "why": "the account is being moved"}


@asynccontextmanager
async def worker(client: Client, task_queue: str | None = None) -> AsyncIterator[Dispatcher]:
    """A worker as operators run it."""
    task_queue = task_queue or f"test-{uuid.uuid4()}"
    plugin = DurableLLMPlugin(WorkerSettings(api_base_hosts="127.0.0.1"))
    running = Worker(client, task_queue=task_queue, plugins=[plugin], workflow_runner=workflow_runner())
    async with running, Dispatcher(client, task_queue=task_queue) as dispatcher:
        yield dispatcher


def at(wire: Wire, *names: str) -> LLMConfig:
    """Models at a scripted provider."""
    return LLMConfig(models=[ModelSpec(name=name, api_base=wire.url + "/v1") for name in names])


async def listed(dispatcher: Dispatcher, count: int) -> list[Hold]:
    """What is held, once Temporal's list, which is a moment late, has that many."""
    while len(found := await dispatcher.holds()) != count:
        await asyncio.sleep(0.02)
    return found


async def held_queue(client: Client, models: str, **options: Any) -> str:
    """A task queue on which something is held."""
    early = Dispatcher(client, task_queue=f"test-{uuid.uuid4()}")
    await early.hold(models, **options, **WHO)
    await listed(early, 1)
    return early.task_queue


async def is_held(handle: CallHandle) -> Any:
    """Wait until the call waits for the end of a hold."""
    while not (status := await handle.status()).activity.startswith("paused: "):
        await asyncio.sleep(0.02)
    return status


async def test_a_held_call_sends_nothing_and_goes_on_when_it_is_released(server_env: WorkflowEnvironment) -> None:
    """Its ledger says who holds what and why; it spends no retry; another provider's call waits for nothing."""
    task_queue = await held_queue(server_env.client, "openai")
    async with playing(ANSWER) as wire, worker(server_env.client, task_queue) as dispatcher:
        held = await dispatcher.submit(at(wire, MODEL), "Hi.")
        status = await is_held(held)
        other = await dispatcher.call(at(wire, OTHER), "Hi.")
        assert len(wire.requests) == 1
        [hold] = await dispatcher.holds()
        await dispatcher.release("openai", why="moved")
        result = await held.result()
    assert status.waits
    assert status.activity == "paused: openai is held by ann: the account is being moved"
    assert (hold.models, hold.by, hold.why, hold.until) == ("openai", "ann", "the account is being moved", None)
    assert [entry.category for entry in result.attempts] == ["held", None]
    first, second = result.attempts
    assert (first.decision, first.cost, first.http_status) == ("wait", 0.0, None)
    assert (second.try_number, first.delay_s > 0, len(other.attempts)) == (1, True, 1)


async def test_a_hold_ends_by_itself_after_its_time(server_env: WorkflowEnvironment) -> None:
    """Nobody has to remember it."""
    task_queue = await held_queue(server_env.client, MODEL, lasts=timedelta(seconds=4))
    [hold] = await Dispatcher(server_env.client, task_queue=task_queue).holds()
    async with playing(ANSWER) as wire, worker(server_env.client, task_queue) as dispatcher:
        result = await dispatcher.call(at(wire, MODEL), "Hi.")
        await listed(dispatcher, 0)
    assert hold.until == hold.since + timedelta(seconds=4)
    assert [entry.category for entry in result.attempts][-1] is None


async def test_a_worker_learns_of_a_hold_and_of_its_release_while_it_runs(server_env: WorkflowEnvironment) -> None:
    """And what it still takes for held for a moment is asked all the same: the hold itself is gone."""
    async with playing(ANSWER) as wire, worker(server_env.client) as dispatcher:
        await dispatcher.call(at(wire, MODEL), "Hi.")
        await dispatcher.hold("openai/*", **WHO)
        while True:  # the worker looks every two seconds
            handle = await dispatcher.submit(at(wire, MODEL), "Hi.")
            while not (waits := (await handle.status()).activity.startswith("paused: ")) and (
                (await handle.status()).outcome == "running"
            ):
                await asyncio.sleep(0.02)
            if waits:
                break
        await dispatcher.release("openai/*", **WHO)
        await handle.result()
        asked_at_once = await dispatcher.call(at(wire, MODEL), "Hi.")
    assert len(asked_at_once.attempts) == 1


async def test_an_operator_lets_held_calls_go_on_to_their_next_model(server_env: WorkflowEnvironment) -> None:
    """By `skip`; the hold stays."""
    task_queue = await held_queue(server_env.client, "openai")
    async with playing(ANSWER) as wire, worker(server_env.client, task_queue) as dispatcher:
        handle = await dispatcher.submit(at(wire, MODEL, OTHER), "Hi.")
        await is_held(handle)
        await handle.skip(**WHO)
        result = await handle.result()
        await dispatcher.release("openai", **WHO)
    assert [entry.model for entry in result.attempts] == [MODEL, OTHER]


@pytest.mark.proof  # 130 calls
async def test_many_held_calls_all_go_on(server_env: WorkflowEnvironment) -> None:
    """More than go on at once, and calls that have ended meanwhile are passed over."""
    task_queue = await held_queue(server_env.client, "openai")
    async with playing(ANSWER) as wire, worker(server_env.client, task_queue) as dispatcher:
        handles = [await dispatcher.submit(at(wire, MODEL), f"Hi {number}.") for number in range(130)]
        for handle in handles:
            await is_held(handle)
        for handle in handles[:5]:
            await handle.cancel()
        await dispatcher.release("openai", **WHO)
        results = await asyncio.gather(*(handle.result() for handle in handles[5:]))
    assert {len(result.attempts) for result in results} == {2}
    assert len(wire.requests) == 125


@workflow.defn
class AsksAgain:
    """A call whose attempt finds that it is still held, once, when the hold has woken it."""

    def __init__(self) -> None:
        self._woken = 0

    @workflow.signal(name=RESUME_SIGNAL)
    def resume(self) -> None:
        self._woken += 1

    @workflow.run
    async def run(self, hold: str) -> int:
        """Wait, be woken, wait again, be woken again."""
        handle = workflow.get_external_workflow_handle(hold)
        await handle.signal(WAIT_SIGNAL, workflow.info().workflow_id)
        await workflow.wait_condition(lambda: self._woken > 0)
        await handle.signal(WAIT_SIGNAL, workflow.info().workflow_id)
        await workflow.wait_condition(lambda: self._woken > 1)
        return self._woken


async def test_a_call_that_asks_again_while_the_hold_ends_is_woken_again(server_env: WorkflowEnvironment) -> None:
    """Or, if the hold has ended, is told so."""
    queue = f"test-{uuid.uuid4()}"
    dispatcher, own_id = Dispatcher(server_env.client, task_queue=queue), hold_id(queue, "openai", None)
    runner = workflow_runner()
    async with Worker(server_env.client, task_queue=queue, workflows=[LLMHold, AsksAgain], workflow_runner=runner):
        await dispatcher.hold("openai", **WHO)
        waiting = [
            await server_env.client.start_workflow(AsksAgain.run, own_id, id=f"{queue}-{number}", task_queue=queue)
            for number in range(20)
        ]
        for handle in waiting:
            while not any(
                event.HasField("signal_external_workflow_execution_initiated_event_attributes")
                for event in (await handle.fetch_history()).events
            ):
                await asyncio.sleep(0.02)
        await dispatcher.release("openai", **WHO)
        ended = await asyncio.gather(*(handle.result() for handle in waiting), return_exceptions=True)
    assert all(each == 2 or isinstance(each, WorkflowFailureError) for each in ended), ended
    assert 2 in ended


async def test_what_cannot_be_held_or_released_is_refused(server_env: WorkflowEnvironment) -> None:
    """Each text says what to do instead."""
    dispatcher = Dispatcher(server_env.client, task_queue=f"test-{uuid.uuid4()}")
    with pytest.raises(InvalidRequestError, match="'openai' is not held"):
        await dispatcher.release("openai", **WHO)
    with pytest.raises(InvalidRequestError, match="why: String should have at most 500"):
        await dispatcher.hold("openai", why="x" * 501)
    with pytest.raises(InvalidRequestError, match="models: String should have at least 1"):
        await dispatcher.hold("", why="?")
    await dispatcher.hold("openai", **WHO)
    with pytest.raises(InvalidRequestError, match="openai is held already; release it first"):
        await dispatcher.hold("openai", **WHO)
    await dispatcher.hold("openai", api_key="os.environ/TEAM_KEY", **WHO)  # another account
    await server_env.client.get_workflow_handle(hold_id(dispatcher.task_queue, "openai", None)).terminate()


@pytest.mark.parametrize(
    ("models", "api_key", "covered"),
    [
        ("openai", None, True), ("openai/gpt-4o", None, True), ("openai/gpt-4o*", None, True), ("open", None, False),
        ("openai/gpt-4", None, False), ("openai", "os.environ/KEY", True), ("openai", "os.environ/OTHER", False),
    ],
)  # fmt: skip
def test_a_hold_is_of_a_provider_a_model_or_a_pattern(models: str, api_key: str | None, covered: bool) -> None:
    """And of one account, if it names one."""
    hold = Hold.model_validate({"models": models, "api_key": api_key, "since": "2026-11-29T03:00:00Z"})
    assert hold.covers(ModelSpec(name="openai/gpt-4o", api_key="os.environ/KEY")) is covered


async def test_the_command_line_holds_lists_and_releases(server_env: WorkflowEnvironment) -> None:
    """With the calls' task queue."""
    queue = f"test-{uuid.uuid4()}"
    env = {"TEMPORAL_ADDRESS": server_env.client.service_client.config.target_host, "DURABLE_LLM_TASK_QUEUE": queue}
    held = await run("hold", "openai", "--for", "2h", "--why", "moved", "--by", "ann", "--json", **env)
    await listed(Dispatcher(server_env.client, task_queue=queue), 1)
    table, listing = await asyncio.gather(run("holds", **env), run("holds", "--json", **env))
    released = await run("release", "openai", "--why", "done", **env)
    assert held.json == {"models": "openai", "held": True}
    assert "openai" in table.out
    assert "ann" in table.out
    assert [(hold["models"], hold["why"]) for hold in listing.json["holds"]] == [("openai", "moved")]
    assert released.out == "release: calls may ask openai again\n"
