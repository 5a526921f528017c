"""A job that is started again from its first line gets what it had, and asks only for what is new."""

import asyncio
import logging
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from durable_llm import (
    AllModelsExhaustedError,
    CallCancelledError,
    DispatcherUnavailableError,
    Done,
    InvalidRequestError,
    Job,
    LLMConfig,
    LLMResult,
    ModelSpec,
    Policy,
    ResultNotReadyError,
    TextDelta,
)
from durable_llm.contract.request import AttemptOrder
from durable_llm.contract.result import Answer
from durable_llm.streams import open_streams
from tests.client.test_embeddings import GOOD, asked, spec
from tests.client.test_stream import WHOLE
from tests.conftest import SetStage
from tests.support.calls import completion
from tests.support.scripted import answer, fresh_id, http_error, never
from tests.support.wire import playing
from tests.support.workers import working

MODEL = "openai/gpt-4o-mini"
QUICK = Policy(patience=timedelta(0), backoff_initial=timedelta(milliseconds=1), backoff_cap=timedelta(milliseconds=1))


CHAT = {"by_request": lambda body: WHOLE if body.get("stream") else {"body": completion("The right answer.")}}


def numbered() -> object:
    """A provider whose answers are numbered in the order of its requests."""
    count = iter(range(1, 1000))
    return lambda _: answer(str(next(count)))


async def talk(job: Job) -> list[str | None]:
    """A program of three calls, each of which depends on the one before."""
    first = await job.call(MODEL, "Name a prime.")
    second = await job.call(MODEL, f"Add one to {first.text}.")
    third = await job.call(MODEL, f"Double {second.text}.")
    return [first.text, second.text, third.text]


async def test_a_job_started_again_asks_nothing_again(on_server: SetStage) -> None:
    """From its first line on, it gets every answer that it had."""
    job_id = fresh_id()
    async with on_server(numbered()) as stage:
        async with stage.dispatcher.job(job_id) as job:
            first = await talk(job)
        async with stage.dispatcher.job(job_id) as job:
            again = await talk(job)
    assert again == first == ["1", "2", "3"]
    assert len(stage.provider.orders) == 3


async def test_a_job_attaches_to_what_is_running(on_server: SetStage) -> None:
    """A call that was open when the job died is not asked a second time."""
    job_id, asked_for, may_answer = fresh_id(), asyncio.Event(), asyncio.Event()

    async def held(_: AttemptOrder) -> Answer:
        asked_for.set()
        await may_answer.wait()
        return answer("at last")

    async with on_server(held) as stage:
        dying = asyncio.create_task(stage.dispatcher.job(job_id).call(MODEL, "Think long."))
        await asked_for.wait()
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
        again = asyncio.create_task(stage.dispatcher.job(job_id).call(MODEL, "Think long."))
        may_answer.set()
        assert (await again).text == "at last"
    assert len(stage.provider.orders) == 1


async def test_the_same_content_twice_is_two_calls(on_server: SetStage) -> None:
    """The n-th call of a content is the same call in every run, also where calls run side by side."""
    job_id = fresh_id()
    async with on_server(numbered()) as stage:
        runs = []
        for _ in range(2):
            job = stage.dispatcher.job(job_id)
            results = await asyncio.gather(*(job.call(MODEL, "Throw a die.") for _ in range(5)))
            runs.append(sorted(result.text or "" for result in results))
    assert runs[0] == runs[1] == ["1", "2", "3", "4", "5"]


async def test_concurrency_does_not_change_ids(on_server: SetStage) -> None:
    """The order in which contents are asked makes no difference."""
    job_id, prompts = fresh_id(), [f"Prompt {n}" for n in range(6)]
    async with on_server(numbered()) as stage:
        job = stage.dispatcher.job(job_id)
        first = {prompt: (await job.call(MODEL, prompt)).text for prompt in prompts}
        job = stage.dispatcher.job(job_id)
        again = dict(zip(prompts[::-1], [
            result.text for result in await asyncio.gather(*(job.call(MODEL, prompt) for prompt in prompts[::-1]))
        ], strict=True))  # fmt: skip
    assert again == first


async def test_a_step_is_a_scope_of_its_own(on_server: SetStage) -> None:
    """In another step the same content is a new call; the same name is the same step."""
    job_id = fresh_id()
    async with on_server(numbered()) as stage:
        runs = []
        for _ in range(2):
            job = stage.dispatcher.job(job_id)
            texts = [
                (await job.call(MODEL, "Go on.")).text,
                (await job.step("plan").call(MODEL, "Go on.")).text,
                (await job.step("plan").call(MODEL, "Go on.")).text,
                (await job.step("plan").step("detail").call(MODEL, "Go on.")).text,
            ]
            runs.append(texts)
        assert job.spent.calls == 4
        assert job.step("plan").spent.calls == 3
    assert runs == [["1", "2", "3", "4"]] * 2


async def test_a_job_that_diverges_asks_anew_and_reports_what_it_left(on_server: SetStage) -> None:
    """Another prompt at the same place is another call; the report names the one that nobody asked for again."""
    job_id = fresh_id()
    async with on_server(numbered()) as stage:
        old = stage.dispatcher.job(job_id)
        kept, left = await old.submit(MODEL, "Kept."), await old.submit(MODEL, "Left.")
        await asyncio.gather(kept.result(), left.result())
        job = stage.dispatcher.job(job_id)
        assert (await job.call(MODEL, "Kept.")).text in {"1", "2"}
        assert (await job.call(MODEL, "New.")).text == "3"
        while len((report := await job.report()).calls) < 3:  # Temporal lists a call a moment after it
            await asyncio.sleep(0.05)
    assert report.not_asked_again == [left.call_id]
    assert report.spent.calls == 3
    assert report.complete


async def test_who_waited_too_short_attaches_to_the_same_call(on_server: SetStage) -> None:
    """A call whose answer nobody saw is not counted as asked: the next one with this content gets it."""
    asked_for, may_answer = asyncio.Event(), asyncio.Event()

    async def held(_: AttemptOrder) -> Answer:
        asked_for.set()
        await may_answer.wait()
        return answer("at last")

    async with on_server(held) as stage:
        job = stage.dispatcher.job(fresh_id())
        with pytest.raises((ResultNotReadyError, DispatcherUnavailableError)):  # the second on a busy machine
            await job.call(MODEL, "Think long.", wait=timedelta(milliseconds=300))
        again = asyncio.create_task(job.call(MODEL, "Think long."))
        await asked_for.wait()
        may_answer.set()
        assert (await again).text == "at last"
    assert len(stage.provider.orders) == 1


async def test_a_refused_call_takes_no_number(on_server: SetStage) -> None:
    """What was refused before anything was sent does not shift the calls after it."""
    job_id = fresh_id()
    async with on_server(numbered()) as stage:
        job = stage.dispatcher.job(job_id)
        with pytest.raises(InvalidRequestError):
            await job.call(MODEL, "Hi.", metadata={"key": "sk-proj-" + "a1B2" * 12})
        assert (await job.call(MODEL, "Hi.")).text == "1"
        assert (await stage.dispatcher.job(job_id).call(MODEL, "Hi.")).text == "1"


async def test_a_failed_call_fails_again_unless_it_is_to_run_again(on_server: SetStage) -> None:
    """A job replays failures too; `if_failed` for the whole job asks them again."""
    job_id, config = fresh_id(), LLMConfig(models=[ModelSpec(name=MODEL, max_retries=0)])
    async with on_server(http_error(401, text="no such key"), answer("now")) as stage:
        for _ in range(2):
            with pytest.raises(AllModelsExhaustedError):
                await stage.dispatcher.job(job_id, policy=QUICK).call(config, "Hi.")
        again = stage.dispatcher.job(job_id, policy=QUICK, if_failed="rerun")
        assert (await again.call(config, "Hi.")).text == "now"
    assert len(stage.provider.orders) == 2


async def test_spent_counts_calls_attempts_waits_tokens_and_cost(on_server: SetStage) -> None:
    """A run that replays shows what the job has used, and so does another process; unknown is never zero."""
    job_id = fresh_id()
    async with on_server(http_error(500, text="oops"), answer("yes"), answer("?", cost=None)) as stage:
        for _ in range(2):
            job = stage.dispatcher.job(job_id, policy=QUICK)
            await job.call(MODEL, "One.")
            assert job.spent.cost_complete
            await job.call(MODEL, "Two.")
            spent = job.spent
            assert (spent.calls, spent.attempts, spent.prompt_tokens, spent.completion_tokens) == (2, 3, 10, 2)
            assert spent.cost == pytest.approx(0.01)
            assert not spent.cost_complete
            assert spent.waited_s > 0
        while (found := await stage.dispatcher.report(job=job_id)).spent != spent:
            await asyncio.sleep(0.05)  # Temporal lists a call a moment after it
        by_session = await stage.dispatcher.report(session=job_id)
    assert found.spent == by_session.spent == spent


async def test_cancelling_a_job_cancels_what_runs(on_server: SetStage) -> None:
    """All its running calls end, those of earlier runs too; another job's go on."""
    async with on_server(never) as stage:
        job_id = fresh_id()
        earlier = await stage.dispatcher.job(job_id).submit(MODEL, "Earlier.")
        other = await stage.dispatcher.job(f"{job_id}-other").submit(MODEL, "Other.")
        job = stage.dispatcher.job(job_id)
        running = [await job.submit(MODEL, "One."), await job.step("plan").submit(MODEL, "Two.")]
        while len(await stage.dispatcher.find(f"WorkflowId STARTS_WITH '{job_id}/'")) < 3:
            await asyncio.sleep(0.05)  # Temporal lists a call a moment after it
        await job.cancel()
        for handle in (earlier, *running):
            with pytest.raises(CallCancelledError):
                await handle.result()
        assert (await other.status()).outcome == "running"
        await other.cancel()


async def test_map_stream_and_embed_need_no_ids_either(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """Everything that a job asks is asked once, however it asks."""
    job_id, texts = fresh_id(), ["one", "two", "three"]
    streams = open_streams(tmp_path.as_uri())
    async with (
        playing(CHAT) as chat,
        playing(GOOD) as embeddings,
        working(server_env.client, streams=streams) as dispatcher,
    ):
        for _ in range(2):
            job = dispatcher.job(job_id)
            chain = ModelSpec(name=MODEL, api_base=chat.url)
            mapped = [each async for each in job.map(chain, ["A?", "B?"], ordered=True)]
            assert [each.result.text for each in mapped] == ["The right answer."] * 2
            events = [event async for event in job.stream(chain, "C?")]
            assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "The right answer."
            assert isinstance(events[-1], Done)
            found = await job.embed(spec(embeddings), texts)
            assert len(found.vectors) == 3
            assert job.spent.calls == 4
        await dispatcher.job(job_id).embed(spec(embeddings, max_retries=7), texts)  # policy is no part of an id
        changed = await dispatcher.job(job_id).embed(spec(embeddings), ["two", *texts], batch_size=1)
        assert len(changed.vectors) == 4
    assert len(chat.requests) == 3
    assert sorted(map(len, asked(embeddings))) == [1, 1, 1, 3]


async def test_everyone_is_told_how_a_call_ended(on_server: SetStage, caplog: pytest.LogCaptureFixture) -> None:
    """`on_end` gets each result and each error once per handle, and its own error costs no answer."""
    told: list[tuple[str, object]] = []
    async with on_server(answer("yes"), http_error(401, text="no such key")) as stage:
        stage.dispatcher._on_end = lambda call_id, end: told.append((call_id, end))
        handle = await stage.dispatcher.submit(MODEL, "Hi.")
        assert await handle.result() == await handle.result()
        with pytest.raises(AllModelsExhaustedError):
            await stage.dispatcher.job(fresh_id()).call(MODEL, "Hi again.", policy=QUICK)
        stage.dispatcher._on_end = lambda *_: 1 / 0
        with caplog.at_level(logging.ERROR, "durable_llm"):
            assert (await stage.dispatcher.attach(handle.call_id).result()).text == "yes"
    assert [type(end) for _, end in told] == [LLMResult, AllModelsExhaustedError]
    assert told[0][0] == handle.call_id
    assert "on_end" in caplog.text


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 2000])
async def test_a_bad_name_is_refused(on_server: SetStage, name: str) -> None:
    """A job's and a step's name become part of ids, so what Temporal would refuse is refused at once."""
    async with on_server(answer()) as stage:
        with pytest.raises(InvalidRequestError):
            stage.dispatcher.job(name)
        with pytest.raises(InvalidRequestError):
            stage.dispatcher.job("job").step(name)


async def test_a_job_makes_its_ids_itself(on_server: SetStage) -> None:
    """An id of the caller's own is refused with what to write instead."""
    async with on_server(answer()) as stage:
        with pytest.raises(InvalidRequestError, match=r"step\(name\)"):
            await stage.dispatcher.job("job").call(MODEL, "Hi.", call_id="mine")  # type: ignore[call-arg]  # the point


async def test_ids_are_a_promise(on_server: SetStage) -> None:
    """A job that was begun by another version of the client is continued: its ids never change."""
    async with on_server(never) as stage:
        job = stage.dispatcher.job("job")
        spec = ModelSpec(name=MODEL, extra_params={"temperature": 0.5})
        handles = [
            await job.submit(spec, "Hi."),
            await job.submit(spec, "Hi."),
            await job.step("s").submit(MODEL, "Hi."),
        ]
        for handle in handles:
            await handle.cancel()
    assert [handle.call_id for handle in handles] == [
        "job/e11b5837693a778421ef", "job/e11b5837693a778421ef-2", "job/s/3cbd9946ce7879a78e59",
    ]  # fmt: skip
