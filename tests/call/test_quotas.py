"""Quotas over the whole fleet: attempts wait in Temporal, in a queue whose rate follows what is declared and seen."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
import yaml
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Replayer, SlotReleaseContext, SlotReserveContext, Worker

from durable_llm import Dispatcher, LLMConfig, ModelSpec
from durable_llm.contract.facts import FailureFacts
from durable_llm.contract.names import QUOTA_QUERY, REPORT_SIGNAL
from durable_llm.contract.quotas import (
    Outcomes,
    QuotaLimits,
    QuotaReport,
    QuotaStart,
    QuotaStatus,
    learned_name,
    quota_id,
    quota_queue,
    read_quotas,
)
from tests.conftest import workflow_runner
from tests.support.calls import completion
from tests.support.scripted import fresh_id
from tests.support.wire import playing
from workers.plugin import DurableLLMPlugin
from workers.quotas import SharedSlots
from workers.settings import SettingsError, WorkerSettings, quotas_of
from workflows.llm_call import LLMCall
from workflows.quota import LLMQuota

MODEL = "openai/gpt-4o-mini"
PLENTY = {"models": ["openai/*"], "requests_per_minute": 60_000}
ANSWER = {"body": completion("7")}
LIMITED = FailureFacts(http_status=429, error_code="rate_limit_exceeded", text="slow down", retry_after_s=300.0)


class Fleet:
    """Workers with one quota, and a dispatcher."""

    def __init__(self, client: Client, dispatcher: Dispatcher, task_queue: str, plugin: DurableLLMPlugin) -> None:
        self.client, self.dispatcher, self.task_queue, self._plugin = client, dispatcher, task_queue, plugin
        self.queue = quota_queue(task_queue, "mini")

    @property
    def learned(self) -> frozenset[str]:
        """Names of the quotas that this worker has learned."""
        assert self._plugin.quota_queues is not None
        return self._plugin.quota_queues.learned

    @property
    def keeper(self) -> WorkflowHandle:
        """The quota's workflow."""
        return self.client.get_workflow_handle(quota_id(self.queue))

    async def status(self) -> QuotaStatus:
        return await self.keeper.query(QUOTA_QUERY, result_type=QuotaStatus)

    async def until(self, per_second: float | None) -> QuotaStatus:
        """Wait until the quota's rate is this one."""
        while (status := await self.status()).per_second != per_second:
            await asyncio.sleep(0.05)
        return status


@asynccontextmanager
async def fleet(client: Client, tmp_path: Path, quota: dict, task_queue: str | None = None) -> AsyncIterator[Fleet]:
    """A worker as operators run it, with a file that declares one quota."""
    chains = tmp_path / "chains.yaml"
    chains.write_text(yaml.safe_dump({"quotas": {"mini": quota}}))
    settings = WorkerSettings(chains=chains, api_base_hosts="127.0.0.1")
    task_queue, plugin = task_queue or f"test-{uuid.uuid4()}", DurableLLMPlugin(settings)
    worker = Worker(client, task_queue=task_queue, plugins=[plugin], workflow_runner=workflow_runner())
    async with worker, Dispatcher(client, task_queue=task_queue) as dispatcher:
        yield Fleet(client, dispatcher, task_queue, plugin)


def at(url: str, name: str = MODEL) -> LLMConfig:
    """One model at an address."""
    return LLMConfig(models=[ModelSpec(name=name, api_base=url)])


async def test_an_attempt_comes_through_its_quota_and_the_ledger_says_so(
    server_env: WorkflowEnvironment, tmp_path: Path
) -> None:
    """Its entry names the quota and the wait, its activity says it in the UI; another model waits for nothing."""
    async with playing(ANSWER) as wire, fleet(server_env.client, tmp_path, PLENTY) as quota:
        result = await quota.dispatcher.call(at(wire.url + "/v1"), "Hi.", call_id=(call_id := fresh_id()))
        other = await quota.dispatcher.call(at(wire.url + "/v1", "deepseek/deepseek-chat"), "Hi.")
        history = await server_env.client.get_workflow_handle(call_id).fetch_history()
    entry = result.attempts[0]
    assert entry.quota == "mini"  # also while it waits: see the next test
    assert entry.waited_s is not None
    assert entry.waited_s >= 0
    assert (other.attempts[0].quota, other.attempts[0].waited_s) == (None, None)
    scheduled = [event for event in history.events if event.HasField("activity_task_scheduled_event_attributes")]
    assert scheduled[0].activity_task_scheduled_event_attributes.task_queue.name == quota.queue
    assert b"by quota mini" in scheduled[0].user_metadata.summary.data


async def test_calls_wait_for_their_quota_without_an_attempt(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """A 429 that asks for five minutes holds all of them: nothing is sent, status says since when. Opened, it goes on."""
    async with playing(ANSWER) as wire, fleet(server_env.client, tmp_path, PLENTY) as quota:
        await quota.dispatcher.call(at(wire.url + "/v1"), "Hi.")
        await quota.keeper.signal(REPORT_SIGNAL, QuotaReport(outcomes=[Outcomes(failure=LIMITED)]))
        held = await quota.until(0.0)
        assert "asked for 300 s" in held.reason
        calls = [await quota.dispatcher.submit(at(wire.url + "/v1"), f"Hi {number}.") for number in range(3)]
        while not (status := await calls[0].status()).attempts:
            await asyncio.sleep(0.05)
        assert "by quota mini since" in status.activity
        [waiting] = await calls[0].attempts()
        assert (waiting.quota, waiting.outcome) == ("mini", None)
        workflow = server_env.client.get_workflow_handle(calls[0].call_id)
        shown = await workflow.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
        assert "under way, by quota mini" in shown.current_details
        assert len(wire.requests) == 1
        lifted = QuotaLimits(requests_per_minute=60_000)
        await server_env.client.start_workflow(
            LLMQuota.run, QuotaStart(task_queue=quota.queue, limits=lifted), id=quota_id(quota.queue),
            task_queue=quota.task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING,  # terminated first, a report would start it
        )  # fmt: skip
        results = [await call.result() for call in calls]
    assert [len(result.attempts) for result in results] == [1, 1, 1]
    assert all(result.attempts[0].waited_s > 0 for result in results)


async def test_calls_go_on_without_the_quotas_workflow_and_a_report_brings_it_back(
    server_env: WorkflowEnvironment, tmp_path: Path
) -> None:
    """The server keeps the last rate. What workers see starts the workflow again, with what is declared."""
    async with playing(ANSWER) as wire, fleet(server_env.client, tmp_path, PLENTY) as quota:
        await quota.dispatcher.call(at(wire.url + "/v1"), "Hi.")
        await quota.until(1000.0)
        await quota.keeper.terminate()
        result = await quota.dispatcher.call(at(wire.url + "/v1"), "Hi again.")
        while (await quota.keeper.describe()).status is not WorkflowExecutionStatus.RUNNING:
            await asyncio.sleep(0.05)
        assert (await quota.until(1000.0)).limits.requests_per_minute == 60_000
    assert result.text == "7"


async def test_one_workers_429_slows_the_whole_quota(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """The rate changes for all workers, and the history of the quota says why."""
    limited = {
        "http_status": 429,
        "headers": {"retry-after": "2"},
        "body": {"error": {"message": "slow down"}},
        "then": ANSWER,
    }
    async with playing(limited) as wire, fleet(server_env.client, tmp_path, PLENTY) as quota:
        call = await quota.dispatcher.submit(at(wire.url + "/v1"), "Hi.")
        result = await call.result()
        history = await quota.keeper.fetch_history()
    assert [entry.category for entry in result.attempts] == ["rate_limited", None]
    summaries = b" ".join(event.user_metadata.summary.data for event in history.events)
    assert b"the provider asked for 2 s" in summaries


async def test_an_undeclared_account_that_is_limited_is_limited_for_all_workers(
    server_env: WorkflowEnvironment, tmp_path: Path
) -> None:
    """One worker's 429 starts a quota that nobody declared. Others learn of it, and their attempts go through it."""
    limited = {"http_status": 429, "body": {"error": {"message": "slow down"}}, "then": ANSWER}
    local = {"models": ["nothing/*"], "requests_per_minute": 60}
    address = server_env.client.service_client.config.target_host
    second = await Client.connect(address, data_converter=pydantic_data_converter)
    async with (
        playing(limited) as wire, fleet(server_env.client, tmp_path, local) as here,
        fleet(second, tmp_path, local, here.task_queue) as there,
    ):  # fmt: skip
        config = at(wire.url + "/v1")
        first = await here.dispatcher.call(config, "Hi.")
        name = learned_name(config.models[0])
        keeper = server_env.client.get_workflow_handle(quota_id(quota_queue(here.task_queue, name)))
        while name not in here.learned or name not in there.learned:
            await asyncio.sleep(0.05)
        status = await keeper.query(QUOTA_QUERY, result_type=QuotaStatus)
        later = await there.dispatcher.call(config, "Hi again.")
        other = await there.dispatcher.call(at(wire.url + "/v1", "deepseek/deepseek-chat"), "Hi.")
    assert [entry.category for entry in first.attempts] == ["rate_limited", None]
    assert status.per_second is not None
    assert "slowed after a 429" in status.reason
    assert (later.attempts[0].quota, other.attempts[0].quota) == (name, None)


async def test_no_more_requests_are_open_than_declared(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """The others wait in Temporal, and have their turn when one ends."""
    two = {"models": [MODEL], "concurrent_requests": 2}
    async with playing({"fault": "timeout"}) as wire, fleet(server_env.client, tmp_path, two) as quota:
        calls = [await quota.dispatcher.submit(at(wire.url + "/v1"), f"Hi {number}.") for number in range(6)]
        while len(wire.requests) < 2:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)  # a third would have come by now
        assert len(wire.requests) == 2
        await calls[0].cancel()
        await calls[1].cancel()
        while len(wire.requests) < 4:  # the next two have their turn
            await asyncio.sleep(0.05)
        await asyncio.gather(*(call.cancel() for call in calls[2:]))


async def test_a_limit_of_requests_is_divided_among_workers() -> None:
    """Each takes its share, and at least one."""
    slots, context = SharedSlots(5), cast("SlotReserveContext", None)
    slots.divide(2)
    permits = [await slots.reserve_slot(context) for _ in range(2)]
    third = asyncio.create_task(slots.reserve_slot(context))
    await asyncio.sleep(0)
    assert not third.done()
    slots.divide(1)  # the other worker has gone
    await third
    slots.divide(9)
    fourth = asyncio.create_task(slots.reserve_slot(context))
    for _ in [*permits, third]:
        assert not fourth.done()
        slots.release_slot(cast("SlotReleaseContext", None))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await fourth


async def test_a_worker_without_the_quota_replays_the_call(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """The queue of an attempt is this worker's business; a history does not depend on it."""
    async with playing(ANSWER) as wire, fleet(server_env.client, tmp_path, PLENTY) as quota:
        await quota.dispatcher.call(at(wire.url + "/v1"), "Hi.", call_id=(call_id := fresh_id()))
        history = await server_env.client.get_workflow_handle(call_id).fetch_history()
    replayer = Replayer(workflows=[LLMCall], data_converter=pydantic_data_converter, workflow_runner=workflow_runner())
    assert (await replayer.replay_workflow(history)).replay_failure is None


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ("quotas: [1]", "quotas: expected a table"),
        ("quotas: {mini: 5}", "quotas: mini: expected a table"),
        ("quotas: {learned.a: {models: [a], requests_per_minute: 5}}", "those that begin with 'learned.'"),
        ("quotas: {mini: {models: [a]}}", "quotas: mini: expected requests_per_minute, tokens_per_minute or"),
        ("quotas: {mini: {models: [a], rpm: 5}}", "quotas: mini: rpm: Extra inputs"),
        ("quotas: {'a/b': {models: [a], requests_per_minute: 5}}", "quotas: a/b: name: String should match"),
        ("quotas: {mini: {models: [a], requests_per_minute: 0}}", "greater than 0"),
    ],
)
def test_a_wrong_quota_is_named(tmp_path: Path, written: str, named: str) -> None:
    """A worker does not start with it."""
    chains = tmp_path / "chains.yaml"
    chains.write_text(written)
    with pytest.raises(SettingsError, match=named):
        quotas_of(WorkerSettings(chains=chains))


def test_the_first_quota_that_fits_counts(tmp_path: Path) -> None:
    """By the spec's name, key reference and address."""
    chains = tmp_path / "chains.yaml"
    limits = {"requests_per_minute": 60}
    chains.write_text(yaml.safe_dump({
        "quotas": {
            "team": {"models": ["openai/*"], "api_key": "os.environ/TEAM_KEY", **limits},
            "mini": {"models": ["openai/gpt-4o-mini*"], **limits},
            "local": {"models": ["*"], "api_base": "http://127.0.0.1:8000/v1", **limits},
        }
    }, sort_keys=False))  # fmt: skip
    quotas = read_quotas({"DURABLE_LLM_CHAINS": str(chains)})

    def name_of(**spec: str) -> str | None:
        found = quotas.of(ModelSpec(**spec))
        return found and found.name

    assert name_of(name=MODEL, api_key="os.environ/TEAM_KEY") == "team"
    assert name_of(name="openai/gpt-4o-mini-2024-07-18") == "mini"
    assert name_of(name="vllm/llama", api_base="http://127.0.0.1:8000/v1") == "local"
    assert name_of(name="openai/gpt-4o") is None
