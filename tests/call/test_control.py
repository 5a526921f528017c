"""What an operator tells a call in flight: what it does then, what it refuses, and what it keeps of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.testing import WorkflowEnvironment

from durable_llm import (
    CallCancelledError,
    CallNotFoundError,
    DeadlineExceededError,
    Dispatcher,
    DispatcherUnavailableError,
    InvalidRequestError,
    LLMConfig,
    ModelSpec,
    Policy,
)
from durable_llm.client.handle import CallHandle
from durable_llm.contract.facts import FailureFacts, LocalFault, Sent
from tests.conftest import SetStage, Stage
from tests.support.calls import until, until_attempted, until_parked, until_waiting
from tests.support.scripted import Step, answer, fresh_id, http_error, never, once_open

ASKED_TO_WAIT = http_error(429, retry_after_s=50.0)
PARKS = Policy(on_exhausted="park", patience=timedelta(0))
WHO = {"by": "ann", "why": "openai is down"}


def chain(*names: str) -> LLMConfig:
    """Models by short names."""
    return LLMConfig(models=[ModelSpec(name=f"openai/{name}", max_retries=1) for name in names])


async def test_a_skipped_attempt_is_given_up_and_the_next_model_asked(on_server: SetStage) -> None:
    """The entry says that it was cancelled and by which rule; the ledger says who told it and why."""
    async with on_server(never, answer()) as stage:
        handle = await stage.dispatcher.submit(chain("a", "b"), "Name a prime.")
        await until_attempted(stage.provider, 1)
        await handle.skip(**WHO)
        result = await handle.result()
        entries = await handle.attempts()
    assert [entry.model for entry in result.attempts] == ["openai/a", "openai/b"]
    first = result.attempts[0]
    assert (first.outcome, first.category, first.rule, first.decision) == ("cancelled", "cancelled", "skipped", "next")
    assert not result.cost_complete  # what the request cost is unknown
    [told] = result.interventions
    assert (told.action, told.by, told.why, told.after_attempt) == ("skip", "ann", "openai is down", 1)
    assert entries == result.attempts


async def test_an_answer_that_came_before_the_skip_counts(on_server: SetStage) -> None:
    """What was paid for is not thrown away."""
    async with on_server(answer()) as stage:
        handle = await stage.dispatcher.submit(chain("a", "b"), "Name a prime.")
        await handle.result()
        with pytest.raises(InvalidRequestError, match="it has ended"):
            await handle.skip(**WHO)
        assert [entry.model for entry in await handle.attempts()] == ["openai/a"]


@pytest.mark.parametrize(("tell", "model"), [("retry", "openai/a"), ("skip", "openai/b")])
async def test_a_wait_ends_when_an_operator_ends_it(on_server: SetStage, tell: str, model: str) -> None:
    """The same model or the next one is asked at once, and the entry has the time that was really waited."""
    async with on_server(ASKED_TO_WAIT, answer()) as stage:
        handle = await stage.dispatcher.submit(chain("a", "b"), "Name a prime.")
        await until_waiting(handle)
        assert (await handle.status()).waits
        await getattr(handle, tell)(**WHO)
        result = await handle.result()
    assert result.attempts[1].model == model
    assert result.attempts[0].delay_s < 50


async def test_no_attempt_begins_while_a_call_is_paused(on_server: SetStage) -> None:
    """The attempt under way ends; its failure is followed only after the call is resumed."""
    gate = asyncio.Event()
    async with on_server(once_open(gate, http_error(401)), answer()) as stage:
        handle = await stage.dispatcher.submit(chain("a", "b"), "Name a prime.")
        await until_attempted(stage.provider, 1)
        await handle.pause(**WHO)
        gate.set()
        status = await until(handle, lambda status: status.waits)
        assert (status.outcome, status.activity) == ("paused", "paused by ann: openai is down")
        assert len(stage.provider.orders) == 1
        await handle.resume(by="bob", why="it is back")
        result = await handle.result()
    assert [entry.model for entry in result.attempts] == ["openai/a", "openai/b"]
    assert [(told.action, told.by) for told in result.interventions] == [("pause", "ann"), ("resume", "bob")]


async def test_one_resumption_lets_a_call_go_on_that_was_paused_and_then_parked(on_server: SetStage) -> None:
    """A pause lets the attempt under way end, and its failure may park the call."""
    gate = asyncio.Event()
    async with on_server(once_open(gate, http_error(401)), answer()) as stage:
        handle = await stage.dispatcher.submit(chain("a"), "Name a prime.", policy=PARKS)
        await until_attempted(stage.provider, 1)
        await handle.pause(**WHO)
        gate.set()
        await until_parked(handle)
        await handle.resume(**WHO)
        result = await handle.result()
    assert [entry.decision for entry in result.attempts] == ["park", None]


async def test_who_paused_a_call_is_shown_whatever_was_told_later(on_server: SetStage) -> None:
    """A skip of a paused call goes on to the next model and stays paused."""
    async with on_server(never, answer()) as stage:
        handle = await stage.dispatcher.submit(chain("a", "b"), "Name a prime.")
        await until_attempted(stage.provider, 1)
        await handle.pause(**WHO)
        await handle.skip(by="bob", why="it hangs")
        status = await until(handle, lambda status: status.waits)
        assert status.activity == "paused by ann: openai is down"
        await handle.resume(by="bob", why="it is back")
        result = await handle.result()
    assert [entry.model for entry in result.attempts] == ["openai/a", "openai/b"]


async def test_a_pause_holds_when_the_ledger_no_longer_tells_of_it(on_server: SetStage) -> None:
    """The ledger keeps the last 50 interventions; a paused call needs none of them."""
    gate = asyncio.Event()
    async with on_server(once_open(gate, http_error(401)), answer()) as stage:
        handle = await stage.dispatcher.submit(chain("a", "b"), "Name a prime.")
        await until_attempted(stage.provider, 1)
        await handle.pause(**WHO)
        for number in range(50):
            await handle.replace(f"openai/b{number}", **WHO)
        gate.set()
        status = await until(handle, lambda status: status.waits)
        assert (status.outcome, status.activity) == ("paused", "paused by an operator: no reason given")
        await handle.resume(**WHO)
        result = await handle.result()
    assert [entry.model for entry in result.attempts] == ["openai/a", "openai/b49"]


async def test_a_skip_during_a_pause_forgets_the_response_that_another_model_began(on_server: SetStage) -> None:
    """A lost attempt's background response is followed by its own model only."""
    gate = asyncio.Event()
    models = [ModelSpec(name=f"openai/{name}", responses_api=True, background=True) for name in ("a", "b")]

    drained = FailureFacts(local_fault=LocalFault.DRAINED, request_sent=Sent.YES, response_id="resp_1")
    async with on_server(once_open(gate, drained), answer()) as stage:
        handle = await stage.dispatcher.submit(LLMConfig(models=models), "Name a prime.")
        await until_attempted(stage.provider, 1)
        await handle.pause(**WHO)
        gate.set()
        await until(handle, lambda status: status.waits and status.next_attempt_at is None)
        await handle.skip(**WHO)
        await handle.resume(**WHO)
        await handle.result()
        orders = stage.provider.orders
    assert [(order.spec.name, order.resume) for order in orders] == [("openai/a", None), ("openai/b", None)]


async def test_a_call_that_is_skipped_and_cancelled_at_once_ends(on_server: SetStage) -> None:
    """The skip does not keep it alive: no further attempt begins."""
    async with on_server(never) as stage:
        handles = [await stage.dispatcher.submit(chain("a", "b"), f"Name {number}.") for number in range(10)]
        await until_attempted(stage.provider, len(handles))
        told = (handle.skip(**WHO) for handle in handles)
        await asyncio.gather(*told, *(handle.cancel() for handle in handles), return_exceptions=True)
        for handle in handles:
            with pytest.raises(CallCancelledError):
                await handle.result(timedelta(seconds=60))


async def test_a_parked_call_waits_for_an_operator_and_starts_its_chain_again(
    on_server: SetStage, server_env: WorkflowEnvironment
) -> None:
    """It makes no attempt, is found by its search attribute, and has all its retries when it is resumed."""
    failures = [http_error(401), http_error(503), http_error(503)]
    async with on_server(*failures, *failures[:2], answer()) as stage:
        handle = await stage.dispatcher.submit(chain("a", "b"), "Name a prime.", policy=PARKS)
        status = await until_parked(handle)
        assert status.activity.startswith("parked until an operator resumes it or 20")
        assert "overloaded" in status.activity
        found = await _found(stage.dispatcher, f"LLMOutcome = 'parked' AND TaskQueue = '{stage.task_queue}'")
        assert found == [handle.call_id]
        await handle.resume(**WHO)
        result = await handle.result()
    assert len(result.attempts) == 6
    assert [entry.decision for entry in result.attempts] == ["next", "retry", "park", "next", "retry", None]
    assert result.attempts[2].delay_s > 0


async def _found(dispatcher: Dispatcher, query: str) -> list[str]:
    """The ids that a query finds; Temporal's list is a moment late."""
    while not (rows := await dispatcher.find(query)):
        await asyncio.sleep(0.05)
    return [row.call_id for row in rows]


async def test_a_parked_call_takes_other_models(on_server: SetStage) -> None:
    """Its whole chain is replaced, and asked from its first model on."""
    async with on_server(http_error(401), answer()) as stage:
        handle = await stage.dispatcher.submit(chain("a"), "Name a prime.", policy=PARKS)
        await until_parked(handle)
        await handle.replace(["openai/c", ModelSpec(name="openai/d")], **WHO)
        await handle.resume(**WHO)
        result = await handle.result()
    assert [(entry.model, entry.spec_index) for entry in result.attempts] == [("openai/a", 0), ("openai/c", 0)]


async def test_what_follows_the_current_model_is_replaced(on_server: SetStage) -> None:
    """The current model stays; after it come the new ones, with their own retries."""
    async with on_server(ASKED_TO_WAIT, http_error(401), http_error(503), answer()) as stage:
        handle = await stage.dispatcher.submit(chain("a", "b"), "Name a prime.")
        await until_waiting(handle)
        await handle.replace(chain("c"), **WHO)
        await handle.retry(**WHO)
        result = await handle.result()
    assert [entry.model for entry in result.attempts] == ["openai/a", "openai/a", "openai/c", "openai/c"]


async def test_attempts_are_allowed_anew_after_a_resumption(on_server: SetStage) -> None:
    """`max_attempts` counts from there; it would otherwise park again after each attempt."""
    policy = PARKS.model_copy(update={"max_attempts": 2})
    async with on_server(http_error(401), http_error(401), http_error(401), answer()) as stage:
        handle = await stage.dispatcher.submit(chain("a", "b", "c"), "Name a prime.", policy=policy)
        await until_parked(handle)
        await handle.resume(**WHO)
        result = await handle.result()
    assert [entry.decision for entry in result.attempts] == ["next", "park", "next", None]


async def test_a_call_ends_with_the_answer_that_an_operator_gives(on_server: SetStage) -> None:
    """The attempt under way is given up; the answer itself costs nothing."""
    async with on_server(never) as stage:
        handle = await stage.dispatcher.submit(chain("a"), "Name a prime.")
        await until_attempted(stage.provider, 1)
        await handle.end("7", **WHO)
        result = await handle.result()
        outcome = (await handle.status()).outcome
    assert (result.text, result.finish_reason, result.cost, result.model) == ("7", "stop", 0.0, None)
    assert outcome == "answered"
    assert (result.attempts[0].outcome, result.attempts[0].rule) == ("cancelled", "ended by an operator")
    assert result.interventions[0].action == "end"


async def test_a_parked_call_ends_at_its_deadline(on_skipped_time: SetStage) -> None:
    """The error has the whole ledger, and says what an operator told the call."""
    async with on_skipped_time(http_error(401)) as stage:
        handle = await stage.dispatcher.submit(
            chain("a"), "Name a prime.", policy=PARKS, deadline=timedelta(minutes=30)
        )
        with pytest.raises(DeadlineExceededError) as caught:
            await handle.result()
    assert [entry.decision for entry in caught.value.attempts] == ["park"]


async def test_a_rejected_request_is_not_parked(on_server: SetStage) -> None:
    """No operator can help it: the request itself is at fault."""
    async with on_server(http_error(400, "invalid_function_parameters", "Invalid schema for function 'f'")) as stage:
        with pytest.raises(Exception, match="no model would take the request"):
            await stage.dispatcher.call(chain("a"), "Name a prime.", policy=PARKS)


async def _running(stage: Stage) -> CallHandle:
    handle = await stage.dispatcher.submit(chain("a"), "Name a prime.")
    await until_attempted(stage.provider, 1)
    return handle


async def _paused(stage: Stage) -> CallHandle:
    handle = await _running(stage)
    await handle.pause(**WHO)
    return handle


async def _parked(stage: Stage) -> CallHandle:
    handle = await stage.dispatcher.submit(chain("a"), "Name a prime.", policy=PARKS)
    await until_parked(handle)
    return handle


@asynccontextmanager
async def refusing(handle: CallHandle, text: str) -> AsyncIterator[None]:
    """Expect a refusal that changes nothing."""
    before = len((await handle.status()).interventions)
    with pytest.raises(InvalidRequestError, match=text):
        yield
    assert len((await handle.status()).interventions) == before


@pytest.mark.parametrize(
    ("state", "tell", "given", "text"),
    [
        (_running, "retry", {}, "an attempt is under way: wait for it, or skip it"),
        (_running, "skip", {}, "no model follows openai/a: replace those that follow first"),
        (_running, "skip", {"model": "openai/b"}, "the call is at openai/a, not at openai/b"),
        (_running, "resume", {}, "the call is neither paused nor parked"),
        (
            _running,
            "replace",
            {"models": [ModelSpec(name="openai/b", extra_params={"user": "a" * 1500})] * 49},
            "takes more than 64,000 bytes",
        ),
        (_paused, "pause", {}, "paused already"),
        (_paused, "retry", {}, "the call is paused: resume it"),
        (_parked, "pause", {}, "parked already"),
        (_parked, "skip", {}, "the call is parked, since no model answered"),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", ""),
)
async def test_what_makes_no_sense_is_refused(
    on_server: SetStage, state: Callable[[Stage], Awaitable[CallHandle]], tell: str, given: dict[str, Any], text: str
) -> None:
    """The text says what the call is doing or what to do instead, and nothing is kept of it."""
    step: Step = http_error(401) if state is _parked else never
    async with on_server(step) as stage:
        handle = await state(stage)
        async with refusing(handle, text):
            await getattr(handle, tell)(**given, **WHO)
        await handle.cancel()


async def test_an_embedding_call_takes_no_other_models_and_no_text(on_server: SetStage) -> None:
    """Vectors of two models do not mix, and a text is no vector."""
    async with on_server(never) as stage:
        running = asyncio.create_task(stage.dispatcher.embed("openai/a", ["Hi."], call_id=(own := fresh_id())))
        await until_attempted(stage.provider, 1)
        [call_id] = await _found(stage.dispatcher, f"WorkflowId STARTS_WITH '{own}'")
        handle = stage.dispatcher.attach(call_id)
        async with refusing(handle, "vectors of two models do not mix"):
            await handle.replace("openai/b", **WHO)
        async with refusing(handle, "has vectors for an answer"):
            await handle.end("7", **WHO)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await handle.cancel()


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        ({"by": "ann", "reason": "?"}, "reason: Extra inputs are not permitted"),
        ({"why": "x" * 501}, "why: String should have at most 500 characters"),
        ("skip!", "Input should be"),
    ],
    ids=["unknown field", "too long", "no object"],
)
async def test_what_the_temporal_ui_sends_is_checked(on_server: SetStage, argument: object, text: str) -> None:
    """Any client may send an update; an object is enough, and none at all too."""
    async with on_server(never) as stage:
        handle = await _running(stage)
        workflow = stage.client.get_workflow_handle(handle.call_id)
        with pytest.raises(WorkflowUpdateFailedError) as caught:
            await workflow.execute_update("pause", argument)
        assert text in str(caught.value.cause)
        await workflow.execute_update("pause")
        await workflow.execute_update("resume", {"by": "ann"})
        told = (await handle.status()).interventions
        await handle.cancel()
    assert [(each.action, each.by, each.why) for each in told] == [("pause", "", ""), ("resume", "ann", "")]


async def test_a_literal_key_in_new_models_is_refused_and_not_kept(on_server: SetStage) -> None:
    """An update that its validator refuses leaves nothing in the history."""
    key = "sk-proj-0123456789abcdefghijklmnop"
    async with on_server(never) as stage:
        handle = await _running(stage)
        workflow = stage.client.get_workflow_handle(handle.call_id)
        with pytest.raises(WorkflowUpdateFailedError) as caught:
            await workflow.execute_update("replace", {"models": [{"name": "openai/b", "api_key": key}]})
        history = (await workflow.fetch_history()).to_json()
        await handle.cancel()
    assert key not in str(caught.value.cause)
    assert key not in history


async def test_a_call_that_is_not_there_and_one_without_a_worker(
    server_env: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its own error."""
    monkeypatch.setattr("durable_llm.client.control.ANSWERS_WITHIN", timedelta(seconds=0.5))
    dispatcher = Dispatcher(server_env.client, task_queue=fresh_id())
    with pytest.raises(CallNotFoundError):
        await dispatcher.attach("nobody").pause(**WHO)
    handle = await dispatcher.submit("openai/a", "Name a prime.")
    with pytest.raises(DispatcherUnavailableError, match="the call's worker did not answer"):
        await handle.pause(**WHO)
    await handle.cancel()


async def test_who_did_it_is_this_process_unless_it_says_otherwise(on_server: SetStage) -> None:
    """So no intervention is anonymous."""
    async with on_server(never) as stage:
        handle = await _running(stage)
        await handle.pause(why="to look")
        [told] = (await handle.status()).interventions
        await handle.cancel()
    assert "@" in told.by
