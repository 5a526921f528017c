"""The client against the embedded server: ids, conflicts, attaching, cancelling, and answers without a worker."""

import asyncio
import logging
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from durable_llm import (
    AllModelsExhaustedError,
    CallCancelledError,
    CallConflictError,
    CallNotFoundError,
    CallOutcome,
    CallTerminatedError,
    Dispatcher,
    DispatcherUnavailableError,
    InvalidRequestError,
    LLMConfig,
    LLMResult,
    ModelSpec,
    Outcome,
    Policy,
    ResultNotReadyError,
    UnsupportedRequestError,
)
from durable_llm.contract.names import WORKFLOW
from durable_llm.contract.request import CallRequest, Prompt
from tests.conftest import SetStage, binary
from tests.support.scripted import ScriptedProvider, answer, fresh_id, http_error, never
from workflows.llm_call import LLMCall

MODEL = "openai/gpt-4o-mini"


async def test_the_same_id_and_request_attach_to_the_stored_result(on_server: SetStage) -> None:
    """After a crash of the job the same submission gets the same answer, and nothing is asked again."""
    call_id = fresh_id()
    async with on_server(answer("first"), answer("second")) as stage:
        first = await stage.dispatcher.call(MODEL, "Name a prime.", call_id=call_id)
        again = await stage.dispatcher.call(MODEL, "Name a prime.", call_id=call_id)
        attached = await stage.dispatcher.attach(call_id).result()
    assert first.text == again.text == attached.text == "first"
    assert len(stage.provider.orders) == 1


async def test_many_callers_racing_on_one_id_cause_one_call(on_server: SetStage) -> None:
    """If many submit one id at once, the provider is asked once and all get its answer."""
    call_id = fresh_id()
    async with on_server(answer("one"), answer("two")) as stage:
        results = await asyncio.gather(*(stage.dispatcher.call(MODEL, "Hi", call_id=call_id) for _ in range(200)))
    assert {result.text for result in results} == {"one"}
    assert len(stage.provider.orders) == 1


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"config": "anthropic/claude-haiku-4-5"}, "models"),
        ({"messages": "Name a colour."}, "messages"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"config": ModelSpec(name=MODEL, extra_params={"temperature": 0.5})}, "parameters"),
    ],
)
async def test_another_request_under_a_taken_id_is_a_conflict_that_names_the_part(
    on_server: SetStage, change: dict, part: str
) -> None:
    """An id belongs to one request. The error says what differs, and attaching anyway is possible."""
    call_id = fresh_id()
    async with on_server(answer("kept")) as stage:
        await stage.dispatcher.call(MODEL, "Name a prime.", call_id=call_id)
        request = {"config": MODEL, "messages": "Name a prime.", **change}
        with pytest.raises(CallConflictError) as caught:
            await stage.dispatcher.submit(**request, call_id=call_id)
        assert caught.value.differing == (part,)
        anyway = await stage.dispatcher.call(**request, call_id=call_id, if_different="attach")
    assert anyway.text == "kept"


async def test_what_does_not_change_the_question_is_no_conflict(on_server: SetStage) -> None:
    """Policy, deadline, metadata, timeout and retries may differ after a restart of the job."""
    call_id = fresh_id()
    async with on_server(answer()) as stage:
        await stage.dispatcher.call(MODEL, "Name a prime.", call_id=call_id)
        other = ModelSpec(name=MODEL, max_retries=1, timeout=5)
        options = {"policy": Policy(max_attempts=3), "deadline": timedelta(hours=1), "metadata": {"run": "2"}}
        await stage.dispatcher.call(LLMConfig(models=[other]), "Name a prime.", call_id=call_id, **options)
    assert len(stage.provider.orders) == 1


async def test_another_workflow_type_under_the_id_is_a_conflict(on_server: SetStage) -> None:
    """An id that belongs to another kind of workflow is never treated as a call."""
    call_id = fresh_id()
    async with on_server(answer()) as stage:
        await stage.client.start_workflow("SomethingElse", id=call_id, task_queue=f"nobody-{call_id}")
        for options in ({}, {"if_different": "attach"}, {"if_failed": "rerun", "if_different": "attach"}):
            with pytest.raises(CallConflictError, match="SomethingElse"):
                await stage.dispatcher.submit(MODEL, "Name a prime.", call_id=call_id, **options)
        foreign = stage.dispatcher.attach(call_id)
        for ask in (foreign.status, foreign.attempts, foreign.cancel):
            with pytest.raises(CallConflictError, match="SomethingElse"):
                await ask()


async def test_a_failed_call_is_returned_or_run_again_as_the_caller_says(on_server: SetStage) -> None:
    """if_failed="return" gives the stored failure; "rerun" compares the requests and asks again."""
    call_id = fresh_id()
    async with on_server(http_error(401), answer("recovered")) as stage:
        with pytest.raises(AllModelsExhaustedError):
            await stage.dispatcher.call(MODEL, "Name a prime.", call_id=call_id)
        with pytest.raises(AllModelsExhaustedError):
            await stage.dispatcher.call(MODEL, "Name a prime.", call_id=call_id)
        with pytest.raises(CallConflictError):
            await stage.dispatcher.call(MODEL, "Another.", call_id=call_id, if_failed="rerun")
        result = await stage.dispatcher.call(MODEL, "Name a prime.", call_id=call_id, if_failed="rerun")
    assert result.text == "recovered"
    assert len(stage.provider.orders) == 2


async def test_a_passed_deadline_keeps_nobody_from_a_call_that_was_started_in_time(on_server: SetStage) -> None:
    """An existing call is compared and attached to; only a call that would have to be started is refused."""
    answered, failed = fresh_id(), fresh_id()
    async with on_server(answer("in time"), http_error(401)) as stage:

        async def call(question: str = "Name a prime.", **options: Any) -> LLMResult:
            return await stage.dispatcher.call(MODEL, question, deadline=deadline, **options)

        deadline = datetime.now(UTC) + timedelta(seconds=20)
        await call(call_id=answered)
        with pytest.raises(AllModelsExhaustedError):
            await call(call_id=failed)
        deadline = datetime.now(UTC) - timedelta(seconds=1)
        assert (await call(call_id=answered, if_failed="rerun")).text == "in time"
        with pytest.raises(CallConflictError):
            await call("Name a colour.", call_id=answered)
        with pytest.raises(AllModelsExhaustedError):
            await call(call_id=failed)
        for options in ({"call_id": failed, "if_failed": "rerun"}, {"call_id": fresh_id()}, {}):
            with pytest.raises(InvalidRequestError, match="lies in the past"):
                await call(**options)
    assert len(stage.provider.orders) == 2


async def test_cancelling_ends_the_call_within_two_seconds_with_its_ledger(on_server: SetStage) -> None:
    """The error of a cancelled call has the ledger; the cost of its open attempt is unknown."""
    async with on_server(http_error(429), never) as stage:
        submitted = await stage.dispatcher.submit(MODEL, "Name a prime.")
        while len(await submitted.attempts()) < 2:
            await asyncio.sleep(0.05)
        began = time.monotonic()
        await submitted.cancel()
        with pytest.raises(CallCancelledError) as caught:
            await submitted.result()
        assert time.monotonic() - began < 2
        assert (await submitted.status()).outcome == CallOutcome.CANCELLED
    failed, cancelled = caught.value.attempts
    assert (failed.outcome, failed.http_status, failed.category) == (Outcome.FAILED, 429, "rate_limited")
    assert (cancelled.outcome, cancelled.category, cancelled.cost) == (Outcome.CANCELLED, "cancelled", None)
    assert cancelled.duration_s is not None


@pytest.mark.parametrize("call_id", [None, "named"])
async def test_cancelling_locally_cancels_only_a_call_that_nobody_can_attach_to(
    on_server: SetStage, call_id: str | None
) -> None:
    """A call without an id is cancelled with its caller; one with an id continues."""
    name = call_id and fresh_id()
    async with on_server(never) as stage:
        task = asyncio.create_task(stage.dispatcher.call(MODEL, "Name a prime.", call_id=name))
        while not stage.provider.orders:
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        query = f"TaskQueue = '{stage.task_queue}'"
        [execution] = await _listed(stage.client, query)
        attached = stage.dispatcher.attach(execution.id)
        if name:
            assert (await attached.status()).outcome == CallOutcome.RUNNING
            await attached.cancel()
        with pytest.raises(CallCancelledError):
            await attached.result()


async def _listed(client, query: str) -> list:
    """The executions that `query` finds, once visibility has caught up with the history."""
    for _ in range(100):
        if found := [item async for item in client.list_workflows(query)]:
            return found
        await asyncio.sleep(0.05)
    return []


async def test_attempts_and_status_answer_within_two_seconds_without_a_worker(on_server: SetStage) -> None:
    """Without a worker the ledger comes from the history alone."""
    async with on_server(http_error(503, "overloaded", "busy"), never, graceful_shutdown_timeout=timedelta(0)) as stage:
        submitted = await stage.dispatcher.submit(MODEL, "Name a prime.")
        while len(await submitted.attempts()) < 2:
            await asyncio.sleep(0.05)
        by_query = await submitted.attempts()
    dispatcher = Dispatcher(stage.client, task_queue=stage.task_queue)
    orphan = dispatcher.attach(submitted.call_id)
    began = time.monotonic()
    from_history = await orphan.attempts()
    assert time.monotonic() - began < 2
    began = time.monotonic()
    status = await orphan.status()
    assert time.monotonic() - began < 2
    assert [entry.model_copy(update={"started_at": None}) for entry in from_history] == [
        by_query[0].model_copy(update={"started_at": None}),
        by_query[1].model_copy(
            update={"started_at": None, "outcome": from_history[1].outcome, "message": from_history[1].message}
        ),
    ]
    assert all(entry.started_at and entry.started_at.tzinfo for entry in from_history)
    assert status.outcome == CallOutcome.RUNNING
    await stage.client.get_workflow_handle(submitted.call_id).terminate(reason="end of the test")
    with pytest.raises(CallTerminatedError, match="end of the test") as caught:
        await orphan.result()
    assert len(caught.value.attempts) >= 2


async def test_a_queue_without_workers_is_said_after_a_while(
    server_env: WorkflowEnvironment, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so, instead of a caller waiting in silence."""
    impatient = timedelta(seconds=0.2)
    dispatcher = Dispatcher(server_env.client, task_queue=f"nobody-{uuid.uuid4()}", warn_without_workers=impatient)
    with caplog.at_level(logging.WARNING, "durable_llm"), pytest.raises(ResultNotReadyError, match="attach"):
        await dispatcher.call(MODEL, "Name a prime.", wait=timedelta(seconds=1.5))
    assert "no worker polls task queue 'nobody-" in caplog.text


async def test_an_unknown_id_is_not_found(server_env: WorkflowEnvironment) -> None:
    """Attaching sends nothing; the first use raises the error."""
    unknown = Dispatcher(server_env.client).attach(fresh_id())
    for ask in (unknown.result, unknown.attempts, unknown.status, unknown.cancel):
        with pytest.raises(CallNotFoundError, match="never submitted"):
            await ask()


async def test_a_request_from_the_future_is_refused_instead_of_stuck(on_server: SetStage) -> None:
    """A client newer than the worker gets a typed error, for a newer version and for a shape that cannot be read."""
    request = CallRequest(models=[ModelSpec(name=MODEL)], schema_version=99, deadline_after_s=60.0)
    prompt = Prompt(messages=[{"role": "user", "content": "Hi"}])
    async with on_server(answer()) as stage:
        undecodable = RawValue(Payload(metadata={"encoding": b"binary/encrypted"}, data=b"?"))
        for arguments in (
            [request, prompt],
            [{"schema_version": 1, "models": "of another shape"}, prompt],
            [None, prompt],
            [undecodable, prompt],
            [CallRequest(models=[ModelSpec(name=MODEL)], deadline_after_s=60.0)],
            [{"models": [{"name": MODEL}], "deadline_after_s": 1e12}, prompt],
        ):
            call_id = fresh_id()
            await stage.client.start_workflow(WORKFLOW, args=arguments, id=call_id, task_queue=stage.task_queue)
            with pytest.raises(UnsupportedRequestError, match="upgrade the workers"):
                await stage.dispatcher.attach(call_id).result()
    assert not stage.provider.orders


async def test_fields_that_a_worker_does_not_know_are_ignored(on_server: SetStage) -> None:
    """A newer client of the same schema version is served."""
    sent = {"schema_version": 1, "models": [{"name": MODEL, "novelty": 1}], "deadline_after_s": 60.0, "other": True}
    call_id = fresh_id()
    async with on_server(answer("served")) as stage:
        args = [sent, Prompt(messages=[{"role": "user", "content": "Hi"}])]
        await stage.client.start_workflow(WORKFLOW, args=args, id=call_id, task_queue=stage.task_queue)
        assert (await stage.dispatcher.attach(call_id).result()).text == "served"


async def test_operators_find_calls_by_search_attributes(on_server: SetStage) -> None:
    """The call has outcome, model, category, attempts, cost and session, and no prompt text."""
    async with on_server(http_error(429, "insufficient_quota"), answer()) as stage:
        config = LLMConfig(models=[ModelSpec(name=MODEL), ModelSpec(name="anthropic/claude-haiku-4-5")])
        submitted = await stage.dispatcher.submit(config, "A secret question.", session="job-17")
        await submitted.result()
        description = await stage.client.get_workflow_handle(submitted.call_id).describe()
    shown = {pair.key.name: pair.value for pair in description.typed_search_attributes}
    ours = {name: value for name, value in shown.items() if name.startswith("LLM")}
    assert ours == {
        "LLMModel": "anthropic/claude-haiku-4-5",
        "LLMOutcome": "answered",
        "LLMErrorCategory": "quota_exhausted",
        "LLMSession": "job-17",
        "LLMAttempts": 2,
        "LLMCostUSD": 0.01,
    }
    summary = await description.static_summary()
    assert summary == "openai/gpt-4o-mini → anthropic/claude-haiku-4-5, 1 message, 1 kB"


@pytest.mark.parametrize("named", [True, False])
async def test_closing_the_dispatcher_ends_pending_waits_and_not_the_calls(on_server: SetStage, named: bool) -> None:
    """A job that ends while results are pending leaves nothing open in its process; its calls continue."""
    async with on_server(never) as stage:
        leaving = Dispatcher(stage.client, task_queue=stage.task_queue)
        call_id = fresh_id() if named else None
        waiting = asyncio.create_task(leaving.call(MODEL, "Name a prime.", call_id=call_id))
        while not stage.provider.orders:
            await asyncio.sleep(0.02)
        await leaving.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        [execution] = await _listed(stage.client, f"TaskQueue = '{stage.task_queue}'")
        assert (await stage.dispatcher.attach(execution.id).status()).outcome == CallOutcome.RUNNING
        await stage.dispatcher.attach(execution.id).cancel()


async def test_an_answer_that_arrives_with_the_deadline_counts(server_env: WorkflowEnvironment) -> None:
    """An answer that was paid for before the deadline counts even if the workflow's worker was late."""
    queue = f"late-{uuid.uuid4()}"
    provider = ScriptedProvider([answer("in time")])
    dispatcher = Dispatcher(server_env.client, task_queue=queue)
    workflows = {"task_queue": queue, "workflows": [LLMCall], "workflow_runner": UnsandboxedWorkflowRunner()}
    async with Worker(server_env.client, **workflows, max_cached_workflows=0):
        handle = await dispatcher.submit(MODEL, "Name a prime.", deadline=timedelta(seconds=3))
        workflow = server_env.client.get_workflow_handle(handle.call_id)
        while not (await workflow.describe()).raw_description.pending_activities:
            await asyncio.sleep(0.05)
    async with Worker(server_env.client, task_queue=queue, activities=[provider.provider_attempt]):
        await asyncio.sleep(4)  # in real time: the answer comes, then the deadline, and nobody runs the workflow
    async with Worker(server_env.client, **workflows):
        assert (await handle.result()).text == "in time"


async def test_attempts_and_status_give_up_when_the_server_is_away() -> None:
    """`attempts` and `status` give up after two seconds with an error that names the address."""
    env = await WorkflowEnvironment.start_local(
        dev_server_existing_path=binary("temporal"), data_converter=pydantic_data_converter
    )
    orphan = Dispatcher(env.client).attach("anything")
    await env.shutdown()
    for ask in (orphan.attempts, orphan.status):
        began = time.monotonic()
        with pytest.raises(DispatcherUnavailableError, match="did not answer within 2 s"):
            await ask()
        assert time.monotonic() - began < 3


async def test_an_id_that_speaks_of_namespaces_is_only_an_id(server_env: WorkflowEnvironment) -> None:
    """A NOT_FOUND whose text contains the word namespace is not always a missing namespace."""
    with pytest.raises(CallNotFoundError):
        await Dispatcher(server_env.client).attach("my-namespace is not found").status()
