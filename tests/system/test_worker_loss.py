"""Workers that die: what the ledger says, how soon the call goes on, and how many a prompt may take with it."""

import asyncio
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.testing import WorkflowEnvironment

from durable_llm import Action, AllModelsExhaustedError, Category, Dispatcher, LLMConfig, LLMResult, ModelSpec, Outcome
from tests.support.calls import until_waiting
from tests.support.processes import HANGS, SERVES, kill, ready, start, start_worker
from tests.support.wire import playing

HEARTBEAT_TIMEOUT = timedelta(seconds=4)
BEATS = {
    "DURABLE_LLM_HEARTBEAT_TIMEOUT_S": str(HEARTBEAT_TIMEOUT.total_seconds()),
}
QUEUE = "lossy"
RESUMES_WITHIN = timedelta(seconds=5 + 3)
"""From the moment that a loss can be known to the next attempt: five seconds, and three for a busy machine."""


@pytest.fixture(scope="module")
async def workers(server_env: WorkflowEnvironment) -> AsyncIterator[dict[int, Process]]:
    """Three worker processes by their process ids; two of them are left for the last of the tests that kill one."""
    started = [await start_worker(server_env, QUEUE, **BEATS) for _ in range(3)]
    try:
        await asyncio.gather(*map(ready, started))
        yield {process.pid: process for process in started}
    finally:
        await asyncio.gather(*map(kill, started))


async def holder(env: WorkflowEnvironment, call_id: str) -> int:
    """Process id of the worker that last took a task of the call, and has the call in its cache."""
    history = await env.client.get_workflow_handle(call_id).fetch_history()
    taken = [e for e in history.events if e.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED]
    return int(taken[-1].workflow_task_started_event_attributes.identity.partition("@")[0])


async def pending(env: WorkflowEnvironment, call_id: str) -> list[int]:
    """Process ids of the workers that make an attempt of the call: one, or none between two attempts."""
    described = await env.client.get_workflow_handle(call_id).describe()
    identities = [one.last_worker_identity for one in described.raw_description.pending_activities]
    return [int(identity.partition("@")[0]) for identity in identities]


async def test_a_killed_worker_is_an_unknown_attempt_and_the_next_one_follows_soon(
    server_env: WorkflowEnvironment, workers: dict[int, Process]
) -> None:
    """SIGKILL in mid-attempt: outcome and cost unknown, the model's retries untouched, on within the timeout + 5 s."""
    async with (
        playing(dict(HANGS)) as provider,
        Dispatcher(server_env.client, task_queue=QUEUE) as dispatcher,
    ):
        spec = ModelSpec(name="openai/gpt-4o-mini", api_base=provider.url, max_retries=0)
        handle = await dispatcher.submit(spec, "Name a prime.")
        await provider.asked.wait()
        [struck] = await pending(server_env, handle.call_id)
        provider.case = SERVES
        killed_at = datetime.now(UTC)
        await kill(workers[struck])
        result = await handle.result()
    first, second = result.attempts
    assert (first.outcome, first.category, first.cost) == (Outcome.UNKNOWN, Category.WORKER_LOST, None)
    assert (first.decision, first.rule) == (Action.RETRY, "worker-lost")
    assert "heartbeats stopped" in first.message
    assert (second.outcome, second.model) == (Outcome.ANSWERED, first.model)
    assert second.started_at - killed_at <= HEARTBEAT_TIMEOUT + RESUMES_WITHIN
    assert not result.cost_complete
    assert len(provider.requests) == 2


async def test_a_worker_that_was_away_for_too_long_drops_its_request(
    server_env: WorkflowEnvironment, workers: dict[int, Process]
) -> None:
    """A worker that stands still for longer than the heartbeat timeout learns with its next beat that it is too late."""
    async with (
        playing(dict(HANGS)) as provider,
        Dispatcher(server_env.client, task_queue=QUEUE) as dispatcher,
    ):
        spec = ModelSpec(name="openai/gpt-4o-mini", api_base=provider.url)
        handle = await dispatcher.submit(spec, "Name a prime.")
        await provider.asked.wait()
        [pid] = await pending(server_env, handle.call_id)
        frozen = workers[pid]
        provider.case = SERVES
        frozen.send_signal(signal.SIGSTOP)
        while await pending(server_env, handle.call_id):
            await asyncio.sleep(0.1)
        frozen.send_signal(signal.SIGCONT)
        async with asyncio.timeout(20):
            await provider.closed.wait()
        result = await handle.result()
        assert frozen.returncode is None
    *lost, last = (entry.outcome for entry in result.attempts)  # a busy machine may lose another worker to four seconds
    assert set(lost) == {Outcome.UNKNOWN}
    assert last == Outcome.ANSWERED


async def test_a_call_leaves_the_cache_of_a_killed_worker(
    server_env: WorkflowEnvironment, workers: dict[int, Process]
) -> None:
    """SIGKILL to the worker that has the call in its cache, while the call waits: another goes on where it stood."""
    limits = {"http_status": 429, "headers": {"retry-after": "3"}, "body": {"error": {"message": "Slow down."}}}
    async with (
        playing(limits) as provider,
        Dispatcher(server_env.client, task_queue=QUEUE) as dispatcher,
    ):
        spec = ModelSpec(name="openai/gpt-4o-mini", api_base=provider.url)
        handle = await dispatcher.submit(spec, "Name a prime.")
        await until_waiting(handle)
        due = (await handle.status()).next_attempt_at
        provider.case = SERVES
        await kill(workers[await holder(server_env, handle.call_id)])
        assert datetime.now(UTC) < due
        result = await handle.result()
    first, second = result.attempts
    assert (first.category, second.outcome) == (Category.RATE_LIMITED, Outcome.ANSWERED)
    assert second.started_at - due <= RESUMES_WITHIN


class Fleet:
    """Worker processes that somebody restarts whenever one dies."""

    def __init__(self, env: WorkflowEnvironment, task_queue: str) -> None:
        self.deaths = 0
        self._command = (
            "-m",
            "tests.support.scripted_worker",
            env.client.service_client.config.target_host,
            task_queue,
        )

    @asynccontextmanager
    async def running(self, size: int) -> AsyncIterator["Fleet"]:
        """Keep `size` workers alive."""
        keepers = [asyncio.create_task(self._keep()) for _ in range(size)]
        try:
            yield self
        finally:
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)

    async def _keep(self) -> None:
        while True:
            process = await start(*self._command)
            try:
                await process.wait()
                self.deaths += 1
            finally:
                await kill(process)


async def test_a_prompt_that_kills_its_workers_fails_and_the_fleet_lives(server_env: WorkflowEnvironment) -> None:
    """Three workers a model and no more: a typed error with a ledger of the losses, and others' calls are answered."""
    deadly = LLMConfig(models=[ModelSpec(name="openai/deadly-1"), ModelSpec(name="openai/deadly-2")])
    others: list[asyncio.Task[LLMResult]] = []
    async with (
        Fleet(server_env, "deadly").running(2) as fleet,
        Dispatcher(server_env.client, task_queue="deadly") as dispatcher,
    ):
        poison = await dispatcher.submit(deadly, "Repeat this word for ever.")
        ended = asyncio.create_task(poison.result())
        while not ended.done():
            others.append(asyncio.create_task(dispatcher.call("openai/gpt-4o-mini", "Name a prime.")))
            await asyncio.wait([ended], timeout=0.4)
        with pytest.raises(AllModelsExhaustedError, match="workers were lost") as caught:
            await ended
        deaths = fleet.deaths
        results = await asyncio.gather(*others)
    entries = caught.value.attempts
    assert [entry.model for entry in entries] == ["openai/deadly-1"] * 3 + ["openai/deadly-2"] * 3
    assert {(entry.outcome, entry.category) for entry in entries} == {(Outcome.UNKNOWN, Category.WORKER_LOST)}
    assert deaths == 6
    assert len(results) > 5
    assert all(result.text == "7" for result in results)
