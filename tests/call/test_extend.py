"""A later deadline for a call in flight: it goes on in another run, with the same id and everything that it knows."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowUpdateFailedError
from temporalio.testing import WorkflowEnvironment

from durable_llm import (
    CallCancelledError,
    DeadlineExceededError,
    Dispatcher,
    InvalidRequestError,
    LLMConfig,
    ModelSpec,
    Policy,
)
from durable_llm.client.handle import CallHandle
from durable_llm.contract.facts import FailureFacts, LocalFault, Sent
from durable_llm.contract.names import WORKFLOW
from durable_llm.contract.request import CallRequest, Prompt
from durable_llm.store import Store
from tests.conftest import SetStage, stage
from tests.support.calls import completion, until, until_parked, until_waiting
from tests.support.encryption import client_with
from tests.support.scripted import answer, fresh_id, http_error, never, once_open
from tests.support.stores import Memory
from tests.support.wire import playing
from tests.support.workers import working

LIMITED = http_error(429, retry_after_s=50.0)
PARKS = Policy(on_exhausted="park", patience=timedelta(0))
WHO = {"by": "ann", "why": "the provider is back at ten"}
HALF_AN_HOUR, HOURS = timedelta(minutes=30), timedelta(hours=2)


def chain(*names: str, **options: Any) -> LLMConfig:
    """Models by short names."""
    return LLMConfig(models=[ModelSpec(name=f"openai/{name}", max_retries=1, **options) for name in names])


async def runs(handle: CallHandle, than: str | None = None) -> str:
    """The call's latest run, once it is another one."""
    while (run_id := (await handle._described()).run_id) == than:
        await asyncio.sleep(0.02)
    return run_id


async def extend(handle: CallHandle, deadline: timedelta | datetime) -> str:
    """Extend the deadline of a call between two attempts; returns its new run."""
    first = await runs(handle)
    await handle.extend(deadline, **WHO)
    return await runs(handle, first)


async def test_an_extended_call_outlives_its_first_deadline(skipping_env: WorkflowEnvironment) -> None:
    """A parked call stays parked in its new run, long after Temporal would have ended the first one."""
    async with stage(skipping_env.client, http_error(401), answer()) as ready:
        handle = await ready.dispatcher.submit(chain("a"), "Name a prime.", policy=PARKS, deadline=HALF_AN_HOUR)
        await until_parked(handle)
        later = await skipping_env.get_current_time() + HOURS
        await extend(handle, later)
        await skipping_env.sleep(HALF_AN_HOUR * 2)
        status = await until_parked(handle)
        assert f"{later.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" in status.activity
        await handle.resume(**WHO)
        result = await handle.result()
    assert [(entry.number, entry.decision) for entry in result.attempts] == [(1, "park"), (2, None)]
    assert result.attempts[0].delay_s >= HALF_AN_HOUR.total_seconds() * 2
    assert [told.action for told in result.interventions] == ["extend", "resume"]


async def test_an_extended_call_ends_at_its_later_deadline(skipping_env: WorkflowEnvironment) -> None:
    """With its whole ledger, by its own timer."""
    async with stage(skipping_env.client, http_error(401)) as ready:
        handle = await ready.dispatcher.submit(chain("a"), "Name a prime.", policy=PARKS, deadline=HALF_AN_HOUR)
        await until_parked(handle)
        await extend(handle, await skipping_env.get_current_time() + HOURS)
        async with skipping_env.time_skipping_unlocked():
            with pytest.raises(DeadlineExceededError) as caught:
                await handle.result()
        description = await skipping_env.client.get_workflow_handle(handle.call_id).describe()
    assert [entry.decision for entry in caught.value.attempts] == ["park"]
    assert [told.action for told in caught.value.interventions] == ["extend"]
    assert description.close_time - description.start_time > HOURS - timedelta(minutes=5)


async def test_an_attempt_under_way_is_followed_until_its_own_limit(skipping_env: WorkflowEnvironment) -> None:
    """Its answer counts, and the call ends in its first run."""
    gate = asyncio.Event()
    async with stage(skipping_env.client, once_open(gate, answer())) as ready:
        handle = await ready.dispatcher.submit(chain("a"), "Name a prime.", deadline=HALF_AN_HOUR)
        first = await runs(handle)
        await until(handle, lambda status: status.attempts == 1)
        await handle.extend(await skipping_env.get_current_time() + HOURS, **WHO)
        gate.set()
        result = await handle.result()
        assert await runs(handle) == first
    assert len(result.attempts) == 1


@pytest.mark.proof
async def test_an_attempt_that_outlasts_the_first_deadline_is_asked_again(on_server: SetStage) -> None:
    """Half a minute after it, before Temporal ends the run; its cost is unknown. No server skips time in an attempt."""
    async with on_server(never, answer()) as stage:
        handle = await stage.dispatcher.submit(chain("a", "b"), "Name a prime.", deadline=timedelta(seconds=20))
        await until(handle, lambda status: status.attempts == 1)
        await handle.extend(HOURS, **WHO)
        result = await handle.result()
    first, second = result.attempts
    assert (first.outcome, first.rule, first.model) == ("cancelled", "deadline extended", "openai/a")
    assert (second.number, second.model, second.try_number) == (2, "openai/a", 2)
    assert (result.total_cost, result.cost_complete) == (0.01, False)


async def test_an_attempt_that_fails_is_followed_in_the_next_run(on_server: SetStage) -> None:
    """The failure is decided as always; what it leads to begins after the change of runs."""
    gate = asyncio.Event()
    async with on_server(once_open(gate, http_error(401)), answer()) as stage:
        handle = await stage.dispatcher.submit(chain("a", "b"), "Name a prime.")
        first = await runs(handle)
        await until(handle, lambda status: status.attempts == 1)
        await handle.extend(timedelta(days=2), **WHO)
        gate.set()
        result = await handle.result()
        assert await runs(handle) != first
    assert [(entry.model, entry.decision) for entry in result.attempts] == [("openai/a", "next"), ("openai/b", None)]
    assert result.attempts[0].delay_s is None


async def test_a_wait_goes_on_where_it_was(skipping_env: WorkflowEnvironment) -> None:
    """The next attempt begins at the moment that was announced, and the entry has the whole wait."""
    async with stage(skipping_env.client, LIMITED, answer()) as ready:
        handle = await ready.dispatcher.submit(chain("a"), "Name a prime.")
        announced = (await until_waiting(handle)).next_attempt_at
        await skipping_env.sleep(20)
        await extend(handle, await skipping_env.get_current_time() + timedelta(days=2))
        status = await until_waiting(handle)
        assert (status.next_attempt_at, status.model) == (announced, "openai/a")
        assert "rate_limited" in status.activity
        await skipping_env.sleep(60)
        result = await handle.result()
    assert result.attempts[0].delay_s >= 50
    assert abs((result.attempts[1].started_at - announced).total_seconds()) < 10


@pytest.mark.parametrize("skips", [False, True])
async def test_a_response_that_a_worker_left_is_followed_in_the_next_run(
    skipping_env: WorkflowEnvironment, skips: bool
) -> None:
    """By its own model only: after a skip, the next model begins one of its own."""
    left = FailureFacts(local_fault=LocalFault.UNDECIPHERED, request_sent=Sent.NO, response_id="resp_1")
    models = chain("a", "b", responses_api=True, background=True)
    async with stage(skipping_env.client, *[left] * 4, answer(response_id="resp_1")) as ready:
        handle = await ready.dispatcher.submit(models, "Name a prime.")
        for number in range(1, 5):  # each wait is twice as long as the one before
            await until(handle, lambda status, n=number: status.attempts == n and status.next_attempt_at)
            if number < 4:
                await skipping_env.sleep(2**number + 2)
        await extend(handle, await skipping_env.get_current_time() + timedelta(days=2))
        await until_waiting(handle)
        await (handle.skip if skips else handle.retry)(**WHO)
        await handle.result()
    last = ready.provider.orders[-1]
    assert (last.spec.name, last.resume) == (("openai/b", None) if skips else ("openai/a", "resp_1"))


@pytest.mark.parametrize("order", ["extended first", "paused first"])
async def test_a_paused_call_stays_paused(on_server: SetStage, order: str) -> None:
    """Whichever was told first; it is resumed in its new run."""
    async with on_server(LIMITED, answer()) as stage:
        handle = await stage.dispatcher.submit(chain("a"), "Name a prime.")
        await until_waiting(handle)
        if order == "paused first":
            await handle.pause(by="bob", why="to look")
        await extend(handle, timedelta(days=2))
        if order == "extended first":
            await until(handle, lambda status: status.interventions)
            await handle.pause(by="bob", why="to look")
        status = await until(handle, lambda status: status.outcome == "paused")
        await handle.resume(**WHO)
        await handle.retry(**WHO)
        result = await handle.result()
    assert status.attempts == 1
    assert len(result.attempts) == 2


async def test_a_call_is_extended_as_often_as_needed(on_server: SetStage) -> None:
    """Each time in a run of its own; numbers, costs and interventions go on."""
    lost = FailureFacts(local_fault=LocalFault.TIMEOUT, text="no answer", request_sent=Sent.YES)
    async with on_server(lost, LIMITED, LIMITED, answer()) as stage:
        handle = await stage.dispatcher.submit(chain("a", "b"), "Name a prime.")
        for days in (2, 3, 4):
            await until_waiting(handle)
            await extend(handle, timedelta(days=days))
        await until_waiting(handle)
        await handle.retry(**WHO)
        await until(handle, lambda status: status.attempts == 3)
        await until_waiting(handle)
        await handle.retry(**WHO)
        result = await handle.result()
    assert [entry.number for entry in result.attempts] == [1, 2, 3, 4]
    assert (result.attempts_total, result.cost_complete) == (4, False)
    assert [told.action for told in result.interventions] == ["extend"] * 3 + ["retry"] * 2
    assert result.attempts_by_category == {"timeout": 1, "rate_limited": 2}


async def test_everything_that_finds_a_call_finds_it_once_in_its_new_run(
    on_server: SetStage, server_env: WorkflowEnvironment
) -> None:
    """Id, session, labels, priority and search attributes stay; the list has one row."""
    async with on_server(LIMITED, answer()) as stage:
        asked = {"call_id": fresh_id(), "session": fresh_id(), "priority": 2, "metadata": {"team": "search"}}
        handle = await stage.dispatcher.submit(chain("a"), "Name a prime.", **asked)
        await until_waiting(handle)
        await extend(handle, timedelta(days=2))
        again = await stage.dispatcher.submit(chain("a"), "Name a prime.", **asked)
        assert again.attached
        description = await stage.client.get_workflow_handle(handle.call_id).describe()
        assert description.raw_description.workflow_execution_info.priority.priority_key == 2
        assert await description.memo_value("metadata") == {"team": "search"}
        await until_waiting(handle)
        await again.retry(**WHO)
        assert (await again.result()) == (await handle.result())
        rows = []
        while [row.outcome for row in rows] != ["answered"]:
            await asyncio.sleep(0.05)
            rows = await stage.dispatcher.find(
                f"WorkflowType = '{WORKFLOW}' AND ExecutionStatus != 'ContinuedAsNew' AND LLMSession = '{asked['session']}'"
            )
    [row] = rows
    assert (row.call_id, row.attempts, row.category) == (handle.call_id, 2, "rate_limited")


async def test_the_ledger_is_read_without_a_worker_too(on_server: SetStage, server_env: WorkflowEnvironment) -> None:
    """The new run's history begins with what the call did before."""
    async with on_server(LIMITED, LIMITED, answer()) as stage:
        handle = await stage.dispatcher.submit(chain("a", "b"), "Name a prime.")
        await until_waiting(handle)
        await extend(handle, timedelta(days=2))
        await until_waiting(handle)
        before = await handle.attempts()
        queue = stage.task_queue
    async with Dispatcher(server_env.client, task_queue=queue) as dispatcher:
        handle = dispatcher.attach(handle.call_id)
        entries = await handle.attempts()
        status = await handle.status()
        await handle.cancel()
    assert entries == before
    assert [entry.category for entry in entries] == ["rate_limited"]
    assert status.attempts == 1


@pytest.mark.parametrize("place", ["history", "store", "encrypted history"])
async def test_the_prompt_is_there_in_the_next_run(server_env: WorkflowEnvironment, place: str) -> None:
    """A large one too, which each attempt reads from the history of its run or from the store."""
    prompt = "Name a prime. " * 60_000
    case = {"http_status": 401, "body": "{}", "then": {"body": completion("2")}}
    client = await client_with(server_env, "2026-11") if place.startswith("encrypted") else server_env.client
    store = Store(Memory()) if place == "store" else None
    async with playing(case) as wire, working(client, store=store, worker_store=store) as dispatcher:
        models = ModelSpec(name="hosted_vllm/m", api_base=wire.url)
        handle = await dispatcher.submit(models, prompt, policy=PARKS)
        await until_parked(handle)
        await extend(handle, timedelta(days=2))
        await handle.resume(**WHO)
        result = await handle.result()
    assert result.text == "2"
    assert len(wire.requests) == 2
    assert all(request.count(b"Name a prime.") == 60_000 for request in wire.requests)


@pytest.mark.proof
@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_full_ledger_beside_a_large_prompt_is_shortened(
    server_env: WorkflowEnvironment, encrypted: bool
) -> None:
    """Temporal takes 2 MiB for a run's input. The first and the last entries stay, and the totals count all."""
    client = await client_with(server_env, "2026-11") if encrypted else server_env.client
    refused = [http_error(401, text="no such key " * 200)] * 200
    models = chain(*(f"m{number}" for number in range(50)))
    async with stage(client, *refused, answer()) as ready:
        handle = await ready.dispatcher.submit(models, "x" * 1_890_000, policy=PARKS)
        for attempts in (50, 100, 150, 200):
            await until(handle, lambda status, n=attempts: status.attempts == n and status.outcome == "parked")
            if attempts < 200:
                await handle.resume(**WHO)
        await extend(handle, timedelta(days=2))
        await until_parked(handle)
        await handle.resume(**WHO)
        result = await handle.result()
    numbers = [entry.number for entry in result.attempts]
    assert (numbers[0], numbers[-3:], result.attempts_total) == (1, [199, 200, 201], 201)
    assert 20 < len(numbers) < 150
    assert result.attempts_by_category == {"auth": 200}


async def test_a_cancelled_call_ends_in_its_new_run(on_server: SetStage) -> None:
    """The handle that waits follows it there."""
    async with on_server(LIMITED) as stage:
        handle = await stage.dispatcher.submit(chain("a"), "Name a prime.")
        result = asyncio.create_task(handle.result())
        await until_waiting(handle)
        await extend(handle, timedelta(days=2))
        await handle.cancel()
        with pytest.raises(CallCancelledError) as caught:
            await result
    assert [entry.category for entry in caught.value.attempts] == ["rate_limited"]


async def test_the_next_run_has_a_history_of_its_own(on_server: SetStage) -> None:
    """Its limit is a minute after the later deadline: Temporal ends the call there if no worker can."""
    async with on_server(LIMITED, answer()) as stage:
        handle = await stage.dispatcher.submit(chain("a"), "Name a prime.")
        await until_waiting(handle)
        first = await runs(handle)
        second = await extend(handle, timedelta(days=2))
        ended = await stage.client.get_workflow_handle(handle.call_id, run_id=first).fetch_history()
        began = await stage.client.get_workflow_handle(handle.call_id, run_id=second).fetch_history()
        await handle.cancel()
    assert ended.events[-1].event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW
    started = began.events[0].workflow_execution_started_event_attributes
    assert started.first_execution_run_id == first
    limit = started.workflow_run_timeout.ToTimedelta()
    assert timedelta(days=2) < limit <= timedelta(days=2, seconds=61)


async def test_what_is_told_while_a_call_changes_runs_reaches_it(on_server: SetStage) -> None:
    """No update is lost between two runs, and none says that the call has ended."""
    async with on_server(LIMITED) as stage:
        handles = [await stage.dispatcher.submit(chain("a"), f"Name {number}.") for number in range(10)]
        for handle in handles:
            await until_waiting(handle)
        for days in (2, 3, 4):
            told = [
                tell
                for handle in handles
                for tell in (handle.extend(timedelta(days=days), **WHO), handle.pause(**WHO), handle.resume(**WHO))
            ]
            ended = await asyncio.gather(*told, return_exceptions=True)
            refusals = {error.message.partition(": ")[2] for error in ended if isinstance(error, InvalidRequestError)}
            assert len(refusals) <= 1  # a resumption may come before its pause
            assert all(text.startswith("the call is neither paused") for text in refusals)
            for handle in handles:
                with suppress(InvalidRequestError):
                    await handle.resume(**WHO)
        for handle in handles:
            actions = [each.action for each in (await handle.status()).interventions]
            assert actions.count("extend") == actions.count("pause") == actions.count("resume") == 3
            await handle.cancel()


async def test_what_makes_no_sense_is_refused(on_server: SetStage) -> None:
    """The text says what to write instead, and nothing is kept of it."""
    async with on_server(never) as stage:
        handle = await stage.dispatcher.submit(chain("a"), "Name a prime.")
        await until(handle, lambda status: status.attempts == 1)
        with pytest.raises(InvalidRequestError, match=r"its deadline is 20.* UTC: name a later moment"):
            await handle.extend(timedelta(hours=1), **WHO)
        with pytest.raises(InvalidRequestError, match="the datetime has no time zone"):
            await handle.extend(datetime(2030, 1, 31), **WHO)  # that is the mistake
        workflow = stage.client.get_workflow_handle(handle.call_id)
        for argument, text in [
            ({}, "deadline: Field required"),
            ({"deadline": "2030-01-31T12:00:00"}, "deadline: Input should have timezone info"),
            ({"deadline": "2300-01-31T12:00:00Z"}, "at most 366 days from now"),
        ]:
            with pytest.raises(WorkflowUpdateFailedError) as caught:
                await workflow.execute_update("extend", argument)
            assert text in str(caught.value.cause)
        assert (await handle.status()).interventions == []
        await handle.cancel()


async def test_a_call_of_an_older_client_says_why_it_cannot_be_extended(on_server: SetStage) -> None:
    """Its client set a limit for all runs, which Temporal cannot change."""
    async with on_server(never) as stage:
        request = CallRequest(models=chain("a").models, deadline_after_s=3600)
        prompt = Prompt(messages=[{"role": "user", "content": "Name a prime."}])
        await stage.client.start_workflow(
            WORKFLOW, args=[request, prompt], id=(call_id := fresh_id()), task_queue=stage.task_queue,
            execution_timeout=timedelta(seconds=3660),
        )  # fmt: skip
        handle = stage.dispatcher.attach(call_id)
        await until(handle, lambda status: status.attempts == 1)
        with pytest.raises(InvalidRequestError, match="submit the request again with a new id"):
            await handle.extend(HOURS, **WHO)
        await handle.cancel()
