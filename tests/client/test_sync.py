"""Callers without asyncio: the same answers and the same errors, from scripts, threads, notebooks and forks."""

import asyncio
import signal
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

import durable_llm
from durable_llm import (
    AllModelsExhaustedError,
    CallCancelledError,
    InvalidRequestError,
    ModelSpec,
    Policy,
    TextDelta,
    sync,
)
from durable_llm.streams import open_streams
from tests.client.test_embeddings import spec
from tests.client.test_stream import WHOLE
from tests.conftest import SetStage, Stage
from tests.support.calls import completion
from tests.support.cli import Ended, at, ended, run, start
from tests.support.scripted import answer, fresh_id, http_error, never
from tests.support.wire import playing
from tests.support.workers import working

MODEL = "openai/gpt-4o-mini"
EXHAUSTED = Policy(patience=timedelta(0))
BOTH = {"by_request": lambda body: WHOLE if body.get("stream") else {"body": completion("The right answer.")}}


def connect(stage: Stage, monkeypatch: pytest.MonkeyPatch, **options: object) -> sync.Dispatcher:
    """A dispatcher for the stage, made in this thread."""
    monkeypatch.setenv("TEMPORAL_ADDRESS", stage.client.service_client.config.target_host)
    return sync.Dispatcher.connect(task_queue=stage.task_queue, **options)


async def test_a_thread_calls_submits_attaches_and_cancels(
    on_server: SetStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a script does, it does without a loop of its own; errors are those of the asynchronous side."""

    def script(stage: Stage) -> None:
        with connect(stage, monkeypatch) as dispatcher:
            assert dispatcher.call(MODEL, "Name a prime.").text == "2"
            with pytest.raises(AllModelsExhaustedError) as failed:
                dispatcher.call(ModelSpec(name=MODEL, max_retries=0), "Hi.", policy=EXHAUSTED)
            assert failed.value.attempts[0].http_status == 401
            with pytest.raises(InvalidRequestError):
                dispatcher.call(MODEL, "")
            handle = dispatcher.submit(MODEL, "Think.", call_id=fresh_id())
            assert dispatcher.attach(handle.call_id).status().outcome == "running"
            handle.cancel()
            with pytest.raises(CallCancelledError):
                handle.result()
            assert [entry.outcome for entry in handle.attempts()] in ([], ["cancelled"])

    async with on_server(answer("2"), http_error(401), never) as stage:
        await asyncio.to_thread(script, stage)


async def test_many_threads_share_a_dispatcher(on_server: SetStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """One background loop serves all threads at the same time."""
    together = threading.Barrier(4)

    def script(dispatcher: sync.Dispatcher) -> str | None:
        together.wait(30)
        return dispatcher.call(MODEL, "Name a prime.").text

    async with on_server(answer("2")) as stage:
        dispatcher = await asyncio.to_thread(connect, stage, monkeypatch)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.to_thread(script, dispatcher)) for _ in range(4)]
        await asyncio.to_thread(dispatcher.close)
    assert [task.result() for task in tasks] == ["2"] * 4


async def test_streams_maps_and_jobs_are_iterated(
    server_env: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream's events, a map's results and a job's calls come as on the asynchronous side."""
    monkeypatch.setenv("TEMPORAL_ADDRESS", server_env.client.service_client.config.target_host)
    monkeypatch.setenv("DURABLE_LLM_STREAMS", tmp_path.as_uri())
    job_id = fresh_id()

    def script(chain: ModelSpec, queue: str) -> None:
        with sync.Dispatcher.connect(task_queue=queue) as dispatcher:
            stream = dispatcher.stream(chain, "Stream.")
            assert "".join(event.text for event in stream if isinstance(event, TextDelta)) == stream.text
            assert list(dispatcher.stream(chain, "Settle.").settled()) == ["The right answer."]
            mapped = list(dispatcher.map(chain, ["A?", "B?"], ordered=True))
            assert [each.result and each.result.text for each in mapped] == ["The right answer."] * 2
            for _ in dispatcher.map(chain, ["A?", "B?", "C?"], concurrency=1):
                break  # what is left runs no more
            for _ in range(2):
                with dispatcher.job(job_id) as job:
                    assert job.call(chain, "Once.").text == "The right answer."
                    assert job.step("more").submit(chain, "Twice.").result().text == "The right answer."
                    assert job.spent.calls == 2
            assert dispatcher.find(f"WorkflowId = '{job_id}'") == []

    async with (
        playing(BOTH) as provider,
        working(server_env.client, streams=open_streams(tmp_path.as_uri())) as dispatcher,
    ):
        await asyncio.to_thread(script, spec(provider, MODEL), dispatcher.task_queue)
    prompts = [request for request in provider.requests if b"Once." in request or b"Twice." in request]
    assert len(prompts) == 2


async def test_a_callback_cannot_wait_for_itself(on_server: SetStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that runs in the background thread is told that it cannot block there."""
    told: list[object] = []

    def script(stage: Stage) -> None:
        def on_end(call_id: str, _: object) -> None:
            try:
                dispatcher.attach(call_id).status()
            except InvalidRequestError as error:
                told.append(error)

        with connect(stage, monkeypatch, on_end=on_end) as dispatcher:
            dispatcher.call(MODEL, "Name a prime.")

    async with on_server(answer("2")) as stage:
        await asyncio.to_thread(script, stage)
    assert "background thread" in str(told[0])


@pytest.mark.parametrize("name", ["Dispatcher", "CallHandle", "Job", "CallStream"])
def test_nothing_is_missing(name: str) -> None:
    """Every public name of the asynchronous side is there; those that are internal to it are named here."""
    ours, theirs = getattr(sync, name), getattr(durable_llm, name)
    public = {each for each in dir(theirs) if not each.startswith("_")}
    assert public - set(dir(ours)) == {"Dispatcher": {"prepare", "start"}, "CallHandle": {"streamed"}}.get(name, set())


async def script(stage: Stage, text: str) -> Ended:
    """A program of a user's, to its end."""
    return await run(program=("-c", text), **at(stage))


CONNECT = f"""
import os, sys
from durable_llm import sync
dispatcher = sync.Dispatcher.connect(task_queue=os.environ["DURABLE_LLM_TASK_QUEUE"])
MODEL = {MODEL!r}
"""


async def test_a_notebook_calls_although_its_loop_runs(on_server: SetStage) -> None:
    """Under a running loop it answers too, and the program ends with its own status without `close`."""
    async with on_server(answer("2")) as stage:
        end = await script(
            stage,
            f"""{CONNECT}
import asyncio
async def cell():
    print(dispatcher.call(MODEL, "Name a prime.").text)
asyncio.run(cell())
sys.exit(7)
""",
        )
    assert (end.status, end.out) == (7, "2\n"), end


async def test_a_fork_with_an_open_connection_is_refused(on_server: SetStage) -> None:
    """A child process cannot use what it has inherited, nor connect anew: it is told so instead of waiting forever."""
    async with on_server(answer("2")) as stage:
        end = await script(
            stage,
            f"""{CONNECT}
dispatcher.call(MODEL, "Name a prime.")
child = os.fork()
if child == 0:
    for use in (lambda: dispatcher.call(MODEL, "Name a prime."), sync.Dispatcher.connect):
        try:
            use()
        except sync.InvalidRequestError as error:
            print(error, flush=True)
    os._exit(5)
print("child:", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), dispatcher.call(MODEL, "And now?").text)
""",
        )
    assert end.status == 0, end
    assert end.out.count("forked") == 2, end
    assert "child: 5 2\n" in end.out


async def test_ctrl_c_cancels_a_call_that_nobody_can_attach_to(on_server: SetStage) -> None:
    """A script's Ctrl-C ends its wait at once, and its call without an id."""
    session = fresh_id()
    program = f"""{CONNECT}
dispatcher.call(MODEL, "Think.", session={session!r})
"""
    async with on_server(never) as stage:
        process = await start(program=("-c", program), **at(stage))
        while not stage.provider.orders:
            await asyncio.sleep(0.05)
        process.send_signal(signal.SIGINT)
        end = await ended(process)
        assert end.status != 0, end
        assert "KeyboardInterrupt" in end.err
        while [row.outcome for row in await stage.dispatcher.find(f"LLMSession = '{session}'")] != ["cancelled"]:
            await asyncio.sleep(0.05)
