"""Background mode over attempts: a lost worker's response is followed by the next attempt, and paid once."""

import asyncio
import dataclasses
import signal

import pytest
from temporalio.activity import ActivityCancellationDetails

from durable_llm import AllModelsExhaustedError, Dispatcher, LLMConfig, ModelSpec, Policy
from durable_llm.client.history import ledger_from_history
from durable_llm.contract.categories import Category
from durable_llm.contract.facts import AnswerDefect, FailureFacts, LocalFault, Sent
from tests.support.attempts import attempt, environment, order
from tests.support.processes import outcome, worker
from tests.support.responses import TEXT, UNDER_WAY, keeping, response
from tests.support.scripted import answer, http_error, never
from tests.support.workers import QUICK, working

SPEC = ModelSpec(name="openai/gpt-4o-mini", responses_api=True, background=True, max_retries=1)
PAIR = LLMConfig(models=[SPEC, ModelSpec(name="anthropic/claude-haiku-4-5")])
DONE = response(TEXT)
BEATS = {"DURABLE_LLM_HEARTBEAT_TIMEOUT_S": "2"}


def lost(response_id: str | None = "resp_1", fault: LocalFault = LocalFault.LOST) -> FailureFacts:
    """A worker that was lost while it followed a response."""
    return FailureFacts(local_fault=fault, text="its heartbeats stopped", response_id=response_id)


@pytest.mark.parametrize("fault", [LocalFault.LOST, LocalFault.DRAINED])
async def test_the_next_attempt_gets_the_response_of_a_lost_one(on_skipped_time, fault):
    """Its order names the response; the ledger has an unknown attempt, an answered one, and the whole cost."""
    async with on_skipped_time(lost(fault=fault), answer(response_id="resp_1")) as stage:
        handle = await stage.dispatcher.submit(SPEC, "Name a prime.")
        result = await handle.result()
        history = await stage.client.get_workflow_handle(handle.call_id).fetch_history()

    assert b"try 2 of 3, resumes resp_1" in b"".join(event.user_metadata.summary.data for event in history.events)
    first, second = result.attempts
    assert [order.resume for order in stage.provider.orders] == [None, "resp_1"]
    assert (first.outcome, first.category, first.response_id, first.cost) == (
        "unknown", Category.WORKER_LOST, "resp_1", None,
    )  # fmt: skip
    assert (second.outcome, second.try_number, second.response_id) == ("answered", 2, "resp_1")
    assert (result.total_cost, result.cost_complete) == (0.01, True)


async def test_a_lost_attempt_without_a_response_is_asked_anew(on_skipped_time):
    """There is no response to follow, and the cost stays unknown."""
    async with on_skipped_time(lost(None), answer(response_id="resp_2")) as stage:
        result = await stage.dispatcher.call(SPEC, "Name a prime.")

    assert [order.resume for order in stage.provider.orders] == [None, None]
    assert [entry.response_id for entry in result.attempts] == [None, "resp_2"]
    assert not result.cost_complete


@pytest.mark.parametrize("fault", [LocalFault.UNDECIPHERED, LocalFault.STORE_UNAVAILABLE])
async def test_a_worker_that_could_not_ask_hands_the_response_on(on_skipped_time, fault):
    """Without the encryption key or the store it sent nothing: the response continues and is paid once."""
    unasked = FailureFacts(local_fault=fault, request_sent=Sent.NO, response_id="resp_1")
    async with on_skipped_time(lost(), unasked, answer(response_id="resp_1")) as stage:
        result = await stage.dispatcher.call(SPEC, "Name a prime.", policy=Policy(on_unknown="fail"))

    assert [order.resume for order in stage.provider.orders] == [None, "resp_1", "resp_1"]
    assert (result.total_cost, result.cost_complete) == (0.01, True)


async def test_a_response_that_nobody_can_ask_about_stays_unknown(on_skipped_time):
    """The next worker has no key and sent nothing; the response is billed, and its cost is unknown."""
    keyless = FailureFacts(local_fault=LocalFault.MISSING_KEY, request_sent=Sent.NO)
    async with on_skipped_time(lost(), keyless) as stage:
        with pytest.raises(AllModelsExhaustedError) as raised:
            await stage.dispatcher.call(SPEC, "Name a prime.")

    assert [entry.cost for entry in raised.value.attempts] == [None, None]
    assert raised.value.attempts[1].response_id == "resp_1"


async def test_a_response_is_handed_on_until_the_model_is_left(on_skipped_time):
    """Also after a worker was lost before its first heartbeat; the next model's order has no response."""
    async with on_skipped_time(lost(), lost(None), lost(), answer()) as stage:
        result = await stage.dispatcher.call(PAIR, "Name a prime.")

    assert [order.resume for order in stage.provider.orders] == [None, "resp_1", "resp_1", None]
    assert stage.provider.models[-1] == "anthropic/claude-haiku-4-5"
    assert not result.cost_complete


ENDED = [
    FailureFacts(http_status=404, response_id="resp_1", request_sent=Sent.YES),
    FailureFacts(http_status=200, answer_defect=AnswerDefect.CUT, response_id="resp_1", request_sent=Sent.YES),
    FailureFacts(local_fault=LocalFault.TIMEOUT, response_id="resp_1", request_sent=Sent.YES),
]


@pytest.mark.parametrize("facts", ENDED)
async def test_a_response_that_ended_is_not_followed_again(on_skipped_time, facts):
    """If the response is gone, unusable or cancelled, the same model gets a new request."""
    async with on_skipped_time(facts, answer()) as stage:
        result = await stage.dispatcher.call(SPEC, "Name a prime.")

    assert [order.resume for order in stage.provider.orders] == [None, None]
    assert result.attempts[0].response_id == "resp_1"
    assert not result.cost_complete


async def test_who_must_not_pay_twice_may_follow(on_skipped_time):
    """`on_unknown="fail"` ends a call whose request would be sent again; following a response sends none."""
    never_twice = Policy(on_unknown="fail")
    async with on_skipped_time(lost(), answer(), lost(None)) as stage:
        assert (await stage.dispatcher.call(SPEC, "Name a prime.", policy=never_twice)).text == "2"
        with pytest.raises(AllModelsExhaustedError):
            await stage.dispatcher.call(SPEC, "Name a prime.", policy=never_twice)


async def test_a_lost_previous_response_is_made_up_for(on_skipped_time):
    """The same model is asked once more with every message, for the rest of the call."""
    forgotten = http_error(400, "previous_response_not_found", "Previous response with id 'resp_0' not found.")
    spec = SPEC.model_copy(update={"max_retries": 3})
    async with on_skipped_time(forgotten, http_error(503), answer()) as stage:
        result = await stage.dispatcher.call(spec, "Name a prime.")

    assert [order.all_messages for order in stage.provider.orders] == [False, True, True]
    assert (result.attempts[0].rule, result.attempts[0].category) == ("previous-response", Category.NOT_FOUND)


@pytest.mark.parametrize("preset", ["default", "lmi"])
@pytest.mark.parametrize("forgets", [
    http_error(400, "previous_response_not_found", "not found", exception="BadRequestError"),
    FailureFacts(http_status=200, answer_defect=AnswerDefect.FORGOTTEN, request_sent=Sent.YES, cost=0.02),
])  # fmt: skip
async def test_making_up_for_a_previous_response_takes_no_retry(on_skipped_time, forgets, preset):
    """The model had only a part of the conversation, so it is asked again even without retries."""
    pair = LLMConfig(models=[SPEC.model_copy(update={"max_retries": 0}), PAIR.models[1]])
    async with on_skipped_time(forgets, answer()) as stage:
        handle = await stage.dispatcher.submit(pair, "Name a prime.", policy=Policy(preset=preset))
        result = await handle.result()
        history = await stage.client.get_workflow_handle(handle.call_id).fetch_history()

    assert [(order.spec_index, order.all_messages) for order in stage.provider.orders] == [(0, False), (0, True)]
    assert result.attempts[0].rule == "previous-response"
    assert result.total_cost == pytest.approx(0.01 + (forgets.cost or 0.0))
    assert b"try 2 of 2" in b"".join(event.user_metadata.summary.data for event in history.events)


async def test_a_previous_response_that_stays_lost_leads_to_the_next_model(on_skipped_time):
    """It is asked once more; for the next model the rule applies anew."""
    forgotten = http_error(404, None, "not found", error_param="previous_response_id")
    spec = SPEC.model_copy(update={"max_retries": 3})
    pair = LLMConfig(models=[spec, PAIR.models[1]])
    async with on_skipped_time(forgotten, forgotten, answer()) as stage:
        await stage.dispatcher.call(pair, "Name a prime.")

    assert [(order.spec_index, order.all_messages) for order in stage.provider.orders] == [
        (0, False), (0, True), (1, False),
    ]  # fmt: skip


@pytest.mark.proof
async def test_a_killed_worker_s_response_is_asked_once_and_paid_once(server_env):
    """SIGKILL during the response: the next worker follows the same response and delivers its answer."""
    async with (
        keeping(UNDER_WAY) as server,
        Dispatcher(server_env.client, task_queue="background-killed") as dispatcher,
    ):
        spec = SPEC.model_copy(update={"api_base": server.url})
        async with worker(server_env, "background-killed", **BEATS) as process:
            handle = await dispatcher.submit(spec, "Name a prime.")
            while not server.asked:
                await asyncio.sleep(0.02)
            process.kill()
            await process.wait()
        server.looks = [DONE]
        async with working(server_env.client, "background-killed", **QUICK):
            result = await handle.result()
        history = await ledger_from_history(
            server_env.client.get_workflow_handle(handle.call_id), server_env.client.data_converter
        )

    first, second = result.attempts
    assert len(server.created) == 1
    assert set(server.asked) == {"resp_1"}
    assert server.cancelled == []
    assert result.text == "seven"
    assert (first.outcome, first.category, first.response_id) == ("unknown", Category.WORKER_LOST, "resp_1")
    assert (second.outcome, second.response_id) == ("answered", "resp_1")
    assert (result.cost_complete, result.total_cost) == (True, second.cost)
    assert [entry.response_id for entry in history] == ["resp_1", "resp_1"]


@pytest.mark.proof
async def test_a_drained_worker_s_response_is_followed_by_the_next(server_env):
    """SIGTERM: an attempt that does not end in time is handed over, and nothing is requested twice."""
    async with (
        keeping(UNDER_WAY) as server,
        Dispatcher(server_env.client, task_queue="background-drained") as dispatcher,
    ):
        spec = SPEC.model_copy(update={"api_base": server.url})
        async with worker(server_env, "background-drained", DURABLE_LLM_GRACEFUL_SHUTDOWN_S="0.2") as process:
            handle = await dispatcher.submit(spec, "Name a prime.")
            while not server.asked:
                await asyncio.sleep(0.02)
            process.send_signal(signal.SIGTERM)
            status, printed = await outcome(process)
        server.looks = [DONE]
        async with working(server_env.client, "background-drained", **QUICK):
            result = await handle.result()

    assert status == 0, printed
    assert (len(server.created), server.cancelled) == (1, [])
    assert (result.text, result.attempts[0].response_id) == ("seven", "resp_1")
    assert result.attempts[0].outcome == "unknown"
    assert result.cost_complete


@pytest.mark.parametrize("ended", [False, True])
async def test_a_worker_that_was_taken_for_lost_leaves_the_response_alone(on_server, ended):
    """Another attempt follows the same response, so it is cancelled only if the call has ended."""
    async with on_server(never) as stage, keeping(UNDER_WAY) as server:
        handle = await stage.dispatcher.submit(SPEC, "Name a prime.")
        env = environment(stage.client)
        env.info = dataclasses.replace(env.info, workflow_id=handle.call_id, workflow_run_id=None)
        running = asyncio.create_task(
            attempt(order(SPEC.name, server.url, responses_api=True, background=True), env=env)
        )
        while not server.asked:
            await asyncio.sleep(0.02)
        if ended:
            await stage.client.get_workflow_handle(handle.call_id).terminate()
        env.cancel(ActivityCancellationDetails(not_found=True))
        with pytest.raises(asyncio.CancelledError):
            await running

    assert server.cancelled == (["resp_1"] if ended else [])


async def test_a_cancelled_call_cancels_its_response_at_the_provider(server_env):
    """The attempt learns of the cancellation with its next heartbeat and cancels the response."""
    async with keeping(UNDER_WAY) as server, working(server_env.client, **QUICK) as dispatcher:
        handle = await dispatcher.submit(SPEC.model_copy(update={"api_base": server.url}), "Name a prime.")
        while not server.asked:
            await asyncio.sleep(0.02)
        await handle.cancel()
        async with asyncio.timeout(30):
            while not server.cancelled:
                await asyncio.sleep(0.02)

    assert (server.cancelled, len(server.created)) == (["resp_1"], 1)
