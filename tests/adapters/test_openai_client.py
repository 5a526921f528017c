"""OpenAI's own client, whose chat completions are durable calls: what arrives, and what is refused."""

import asyncio
from datetime import timedelta
from pathlib import Path

import openai
import pytest
from temporalio.testing import WorkflowEnvironment

from durable_llm import LLMConfig, ModelSpec, Policy
from durable_llm.adapters.openai_client import blocking_client, durable_client
from durable_llm.streams import open_streams
from tests.client.test_stream import WHOLE, chunk, streams
from tests.conftest import SetStage
from tests.support.scripted import answer, fresh_id, http_error
from tests.support.wire import playing
from tests.support.workers import working

MODEL = "openai/gpt-4o-mini"
HI = [{"role": "user", "content": "Hi."}]
ONCE = Policy(patience=timedelta(0))


async def test_a_completion_is_a_call(on_server: SetStage) -> None:
    """Text, served model and tokens arrive; in a job it is asked once."""
    job_id = fresh_id()
    async with on_server(answer("yes")) as stage:
        for _ in range(2):
            client = durable_client(stage.dispatcher.job(job_id).call)
            completion = await client.chat.completions.create(model=MODEL, messages=HI, temperature=0.5)
    assert completion.choices[0].message.content == "yes"
    assert completion.model == "gpt-4o-mini-2024-07-18"
    assert completion.usage is not None
    assert completion.usage.total_tokens == 6
    [order] = stage.provider.orders
    assert (order.spec.name, order.spec.extra_params) == (MODEL, {"temperature": 0.5})


async def test_a_config_answers_whatever_model_is_named(on_server: SetStage) -> None:
    """An operator's chain stands behind any name that a framework sends."""
    async with on_server(http_error(401), answer("yes")) as stage:
        chain = LLMConfig(models=[ModelSpec(name="openai/first"), ModelSpec(name="openai/second")])
        client = durable_client(stage.dispatcher.call, chain)
        await client.chat.completions.create(model="whatever", messages=HI)
    assert stage.provider.models == ["openai/first", "openai/second"]


async def test_an_error_has_a_status_and_is_not_retried(on_server: SetStage) -> None:
    """The client's own retries would multiply the call's: there is one call, whatever its status."""
    async with on_server(http_error(401, text="no such key"), http_error(400, "invalid_value", "bad")) as stage:
        client = durable_client(stage.dispatcher.job(fresh_id(), policy=ONCE).call).with_options(max_retries=5)
        with pytest.raises(openai.InternalServerError) as exhausted:
            await client.chat.completions.create(model=MODEL, messages=HI)
        with pytest.raises(openai.BadRequestError) as rejected:
            await client.chat.completions.create(model=MODEL, messages=HI, seed=1)
    assert (exhausted.value.status_code, exhausted.value.body["type"]) == (503, "AllModelsExhaustedError")
    assert rejected.value.body["type"] == "RequestRejectedError"
    assert rejected.value.body["call_id"]
    assert len(stage.provider.orders) == 2


async def test_what_is_no_call_is_refused(on_server: SetStage) -> None:
    """Another endpoint, a parameter that is not on the list, and the wrong kind of call: nothing is sent."""
    async with on_server(answer("yes")) as stage:
        client = durable_client(stage.dispatcher.call)
        for wrong, says in [
            (lambda: client.embeddings.create(model=MODEL, input="Hi."), "is a durable call"),
            (lambda: client.chat.completions.create(model=MODEL, messages=HI, extra_body={"made_up": 1}), "made_up"),
            (lambda: client.chat.completions.create(model="", messages=HI), "config"),
        ]:
            with pytest.raises(openai.BadRequestError, match=says):
                await wrong()
        with pytest.raises(openai.BadRequestError, match=r"durable_llm\.sync"):
            blocking_client(stage.dispatcher.call).chat.completions.create(model=MODEL, messages=HI)
        with pytest.raises(openai.BadRequestError, match="asynchronous"):
            await durable_client(lambda *_: None).chat.completions.create(model=MODEL, messages=HI)
    assert not stage.provider.orders


async def test_a_streamed_completion_is_written_as_it_comes(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """Pieces, the reason of the end, and a last piece for the usage where that is asked for."""
    async with (
        playing(WHOLE) as wire,
        working(server_env.client, streams=open_streams(tmp_path.as_uri())) as dispatcher,
    ):
        client = durable_client(
            dispatcher.call, ModelSpec(name=MODEL, api_base=wire.url), stream=dispatcher.stream
        )  # fmt: skip
        chunks = [
            each
            async for each in await client.chat.completions.create(
                model=MODEL, messages=HI, stream=True, stream_options={"include_usage": True}
            )
        ]
    assert "".join(each.choices[0].delta.content or "" for each in chunks if each.choices) == "The right answer."
    assert [each.choices[0].finish_reason for each in chunks if each.choices][-1] == "stop"
    assert chunks[-1].choices == []  # the piece of the usage, which this provider does not tell


async def test_text_that_is_withdrawn_ends_the_stream_with_an_error(
    server_env: WorkflowEnvironment, tmp_path: Path
) -> None:
    """OpenAI's wire cannot take text back; asked again, the job has the answer."""
    seen = asyncio.Event()
    cut = {**streams(("data", chunk(content="The wrong ")), ("wait", seen), ("reset",)), "then": WHOLE}
    async with (
        playing(cut) as wire,
        working(server_env.client, streams=open_streams(tmp_path.as_uri())) as dispatcher,
    ):
        job = dispatcher.job(job_id := fresh_id())
        spec = ModelSpec(name=MODEL, api_base=wire.url)
        client = durable_client(job.call, spec, stream=job.stream)
        texts: list[str] = []

        async def read() -> None:
            async for each in await client.chat.completions.create(model=MODEL, messages=HI, stream=True):
                texts.append(each.choices[0].delta.content or "")
                seen.set()

        with pytest.raises(openai.APIError, match="withdrawn"):
            await read()
        again = durable_client(dispatcher.job(job_id).call, spec)
        completion = await again.chat.completions.create(model=MODEL, messages=HI)
    assert "".join(texts) == "The wrong "
    assert completion.choices[0].message.content == "The right answer."
