"""Ending a call early, by its caller or its deadline: before, during and between attempts."""

import asyncio
import time
import uuid
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from durable_llm import (
    Action,
    CallCancelledError,
    CallHandle,
    CallOutcome,
    DeadlineExceededError,
    Dispatcher,
    ModelSpec,
    Outcome,
)
from durable_llm.contract.names import WORKFLOW
from tests.conftest import SetStage, stage
from tests.support.scripted import answer, http_error, never
from tests.support.wire import playing
from workers.plugin import build_attempts
from workers.settings import WorkerSettings
from workers.worker import build_worker

MODEL = "openai/gpt-4o-mini"


async def cancelled(handle: CallHandle) -> CallCancelledError:
    """Cancel a call and return its error, which must come within two seconds."""
    began = time.monotonic()
    await handle.cancel()
    with pytest.raises(CallCancelledError) as caught:
        await handle.result()
    assert time.monotonic() - began < 2
    return caught.value


async def shown(env: WorkflowEnvironment, handle: CallHandle) -> dict[str, object]:
    """The call's own search attributes."""
    description = await env.client.get_workflow_handle(handle.call_id).describe()
    attributes = {pair.key.name: pair.value for pair in description.typed_search_attributes}
    return {name: value for name, value in attributes.items() if name.startswith("LLM")}


async def test_cancelling_closes_the_request_within_a_heartbeat_interval(server_env: WorkflowEnvironment) -> None:
    """The provider's connection is closed, and the attempt's cost is unknown."""
    settings = WorkerSettings(
        task_queue=f"cancelled-{uuid.uuid4()}", heartbeat_timeout_s=12.0, api_base_hosts="127.0.0.1"
    )
    worker = build_worker(server_env.client, settings, build_attempts(settings, {}))
    dispatcher = Dispatcher(server_env.client, task_queue=settings.task_queue)
    async with playing({"fault": "timeout"}) as wire, worker, dispatcher:
        handle = await dispatcher.submit(ModelSpec(name=MODEL, api_base=wire.url), "Name a prime.")
        await wire.asked.wait()
        error = await cancelled(handle)
        async with asyncio.timeout(1 + 1.5):  # an interval, and a margin
            await wire.closed.wait()
    [entry] = error.attempts
    assert (entry.outcome, entry.category, entry.cost) == (Outcome.CANCELLED, "cancelled", None)
    assert entry.duration_s is not None
    assert await shown(server_env, handle) == {"LLMModel": MODEL, "LLMOutcome": "cancelled", "LLMAttempts": 1}
    [from_history] = await Dispatcher(server_env.client).attach(handle.call_id).attempts()
    assert from_history == entry.model_copy(
        update={"started_at": from_history.started_at, "duration_s": from_history.duration_s, "rule": None}
    )
    assert from_history.duration_s is not None


async def test_cancelling_ends_a_wait(on_server: SetStage) -> None:
    """A call in a wait ends at once; its ledger has the failure and the wait, and no open attempt."""
    async with on_server(http_error(429, retry_after_s=50.0), never) as stage:
        handle = await stage.dispatcher.submit(MODEL, "Name a prime.")
        while not (await handle.status()).activity.startswith("waiting"):
            await asyncio.sleep(0.05)
        error = await cancelled(handle)
    [entry] = error.attempts
    assert (entry.outcome, entry.category) == (Outcome.FAILED, "rate_limited")
    assert entry.delay_s is not None
    assert entry.delay_s >= 50
    assert len(stage.provider.orders) == 1


@pytest.mark.parametrize("how", ["cancelled", "deadline"])
async def test_a_call_that_ended_before_its_first_worker_asks_nothing(
    server_env: WorkflowEnvironment, how: str
) -> None:
    """A worker that comes too late closes it without an attempt, so no cost is unknown."""
    queue = f"late-{uuid.uuid4()}"
    dispatcher = Dispatcher(server_env.client, task_queue=queue)
    if how == "cancelled":
        handle = await dispatcher.submit(MODEL, "Name a prime.")
        await handle.cancel()
    else:
        handle = await dispatcher.submit(MODEL, "Name a prime.", deadline=timedelta(seconds=0.5))
        await asyncio.sleep(0.6)  # in real time: no worker is there
    async with stage(server_env.client, answer(), task_queue=queue) as ready:
        with pytest.raises(CallCancelledError if how == "cancelled" else DeadlineExceededError) as caught:
            await handle.result()
        assert (await handle.status()).outcome == CallOutcome(how)
    assert not caught.value.attempts
    assert not ready.provider.orders
    assert await shown(server_env, handle) == {
        "LLMModel": MODEL, "LLMOutcome": how, "LLMAttempts": 0, "LLMCostUSD": 0.0,
    }  # fmt: skip


async def test_the_deadline_holds_without_any_worker(server_env: WorkflowEnvironment) -> None:
    """Without workers Temporal ends the call a minute after its deadline, and the caller's error says why."""
    dispatcher = Dispatcher(server_env.client, task_queue=f"nobody-{uuid.uuid4()}")
    handle = await dispatcher.submit(MODEL, "Name a prime.", deadline=timedelta(minutes=10))
    description = await server_env.client.get_workflow_handle(handle.call_id).describe()
    net = description.raw_description.execution_config.workflow_run_timeout
    assert net.ToTimedelta() == timedelta(minutes=11)
    await handle.cancel()
    ends_now = timedelta(seconds=0.5)
    await server_env.client.start_workflow(
        WORKFLOW, id=(call_id := str(uuid.uuid4())), task_queue="nobody", run_timeout=ends_now
    )
    with pytest.raises(DeadlineExceededError, match="while no worker was there"):
        await dispatcher.attach(call_id).result()
    assert (await dispatcher.attach(call_id).status()).outcome == CallOutcome.DEADLINE


async def test_the_deadline_holds_across_attempts_and_waits(on_skipped_time: SetStage) -> None:
    """Each attempt gets the time that is left, and no wait begins that would end too late."""
    async with on_skipped_time(http_error(429, retry_after_s=20.0)) as stage:
        with pytest.raises(Exception, match="deadline") as caught:
            await stage.dispatcher.call(MODEL, "Name a prime.", deadline=timedelta(seconds=50))
    left = [order.timeout_s for order in stage.provider.orders]
    assert left == sorted(left, reverse=True)
    assert left[0] <= 50
    assert left[-1] <= 30
    assert [entry.decision for entry in caught.value.attempts] == [Action.RETRY] * (len(left) - 1) + [Action.FAIL]
