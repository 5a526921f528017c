"""Workers that are asked to stop: what they finish, what they hand over, and a whole fleet restarted under load."""

import asyncio
import itertools
import signal
from asyncio.subprocess import Process
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest
from llmock.scenarios import Delay, Match
from llmock.testing import LLMockServer
from temporalio.testing import WorkflowEnvironment

from durable_llm import Action, Category, Dispatcher, ModelSpec, Outcome
from tests.support.processes import HANGS, SERVES, kill, outcome, ready, start_worker, worker
from tests.support.wire import playing

CALLS = 40
"""At the least; the load goes on until the last worker is replaced."""
AT_ONCE = 15


async def test_what_cannot_finish_is_handed_over_at_the_end_of_the_grace(server_env: WorkflowEnvironment) -> None:
    """No heartbeat timeout is waited for: the attempt ends as drained, in no retry budget, and another worker asks."""
    grace, patience = timedelta(seconds=1), {"DURABLE_LLM_HEARTBEAT_TIMEOUT_S": "60"}
    async with (
        playing(dict(HANGS)) as provider,
        worker(
            server_env, "handed", DURABLE_LLM_GRACEFUL_SHUTDOWN_S=str(grace.total_seconds()), **patience
        ) as stopping,
        Dispatcher(server_env.client, task_queue="handed") as dispatcher,
    ):
        spec = ModelSpec(name="openai/gpt-4o-mini", api_base=provider.url, max_retries=0)
        handle = await dispatcher.submit(spec, "Name a prime.")
        await provider.asked.wait()
        async with worker(server_env, "handed", **patience):
            provider.case = SERVES
            told_at = datetime.now(UTC)
            stopping.send_signal(signal.SIGTERM)
            status, printed = await outcome(stopping)
            result = await handle.result()
    first, second = result.attempts
    assert status == 0, printed
    assert (first.outcome, first.category, first.cost) == (Outcome.UNKNOWN, Category.WORKER_LOST, None)
    assert (first.decision, first.rule) == (Action.RETRY, "worker-lost")
    assert first.message.startswith("drained: the worker was shut down")
    assert second.outcome == Outcome.ANSWERED
    assert grace <= second.started_at - told_at <= grace + timedelta(seconds=15)
    assert len(provider.requests) == 2


@pytest.mark.timeout(240)  # six workers start, each of which takes seconds
async def test_a_rolling_restart_under_load_loses_fails_and_repeats_nothing(server_env: WorkflowEnvironment) -> None:
    """Three workers, each replaced in turn while requests are open: every call is answered by its first attempt."""
    numbers, endings, restarted = itertools.count(), [], asyncio.Event()
    async with AsyncExitStack() as stack:
        provider = stack.enter_context(LLMockServer())
        delays = enumerate((1.0, 1.5, 2.0))
        provider.state.scenarios.add(*(Delay(s, times=None, match=Match(model=f"gpt-{n}")) for n, s in delays))
        dispatcher = await stack.enter_async_context(Dispatcher(server_env.client, task_queue="rolling"))

        async def ask_on() -> None:
            while not restarted.is_set():
                number = next(numbers)
                spec = ModelSpec(name=f"openai/gpt-{number % 3}", api_base=provider.base_url("openai"))
                result = await dispatcher.call(spec, f"Name a prime above {number}.")
                endings.append([entry.outcome for entry in result.attempts])

        async def new_worker() -> Process:
            started = await start_worker(server_env, "rolling")
            stack.push_async_callback(kill, started)
            return started

        fleet = [await new_worker() for _ in range(2)]
        await asyncio.gather(*map(ready, fleet))
        load = [asyncio.create_task(ask_on()) for _ in range(AT_ONCE)]
        for leaving in fleet:
            await ready(await new_worker())
            leaving.send_signal(signal.SIGTERM)
        left = [await outcome(leaving) for leaving in fleet]
        restarted.set()
        await asyncio.gather(*load)
        requests = len(provider.state.journal)
    assert [status for status, _ in left] == [0, 0], left
    assert len(endings) >= CALLS
    assert all(ending == [Outcome.ANSWERED] for ending in endings), endings
    assert requests == len(endings)
