"""Files and batches, asked by OpenAI's own client: each line a durable call, each batch on whichever front is there."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from durable_llm import Dispatcher
from durable_llm.client.tokens import Token
from durable_llm.store import open_store
from tests.client.test_embeddings import vector
from tests.front.serving import Served, serving, write_chain
from tests.support.calls import completion
from tests.support.encryption import client_with
from tests.support.wire import Wire, playing
from tests.support.workers import working

CHAT = "/v1/chat/completions"


def line(custom_id: str, prompt: str = "", **more: Any) -> dict:
    """One line of a batch."""
    body = {"model": "fast", "messages": [{"role": "user", "content": prompt or custom_id}]}
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body, **more}


@asynccontextmanager
async def batching(
    client: Client, directory: Path, monkeypatch: pytest.MonkeyPatch, case: dict
) -> AsyncIterator[tuple[Wire, Dispatcher]]:
    """A provider that plays the case, and a dispatcher with a store."""
    store = open_store((directory / "store").as_uri())
    async with playing(case) as wire, working(client, store=store, worker_store=store) as dispatcher:
        write_chain(directory, monkeypatch, wire.url)
        yield wire, dispatcher


async def made(front: Served, lines: list[dict], endpoint: str = CHAT, **more: Any) -> Any:
    """A batch of these lines."""
    content = "\n".join(map(json.dumps, lines)).encode()
    file = await front.openai.files.create(file=("in.jsonl", content), purpose="batch")
    return await front.openai.batches.create(
        input_file_id=file.id, endpoint=endpoint, completion_window="24h", **more
    )  # fmt: skip


async def ended(front: Served, batch: Any) -> Any:
    """The batch, once it has ended."""
    while (batch := await front.openai.batches.retrieve(batch.id)).status in ("in_progress", "cancelling"):
        await asyncio.sleep(0.05)
    return batch


async def lines_of(front: Served, file_id: str) -> dict[str, dict]:
    """The lines of an output by custom_id."""
    text = (await front.openai.files.content(file_id)).text
    return {each["custom_id"]: each for each in map(json.loads, text.splitlines())}


def says(body: dict) -> dict:
    """A provider that repeats the prompt, and refuses what says so."""
    prompt = body["messages"][-1]["content"]
    if prompt == "refused":
        return {"http_status": 400, "body": {"error": {"message": "no", "type": "invalid_request_error"}}}
    return {"body": completion(f"You said {prompt}.")}


async def test_each_line_is_answered(
    server_env: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In OpenAI's shape; failed lines are in a file of their own; the same key is the same batch."""
    key = {"idempotency-key": "batch"}
    async with (
        batching(server_env.client, tmp_path, monkeypatch, {"by_request": says}) as (wire, dispatcher),
        serving(dispatcher) as front,
    ):
        lines = [line("one"), line("two"), line("bad", "refused")]
        file = await front.openai.files.create(
            file=("in.jsonl", "\n".join(map(json.dumps, lines)).encode()), purpose="batch"
        )  # fmt: skip
        window: Any = "2h"
        batches = [
            await front.openai.batches.create(
                input_file_id=file.id, endpoint=CHAT, completion_window=window, metadata={"team": "a"}, extra_headers=key
            )
            for _ in range(2)
        ]  # fmt: skip
        done = await ended(front, batches[0])
        output, errors = await lines_of(front, done.output_file_id), await lines_of(front, done.error_file_id)
        again = await front.openai.files.retrieve(file.id)
        with pytest.raises(openai.ConflictError):
            await made(front, lines, extra_headers=key)
        status = await dispatcher.attach(f"local/{done.id}/one").status()
    assert batches[0].id == batches[1].id
    assert (done.status, done.metadata, done.endpoint) == ("completed", {"team": "a"}, CHAT)
    counts = done.request_counts
    assert (counts.total, counts.completed, counts.failed) == (3, 2, 1)
    answers = {name: each["response"]["body"]["choices"][0]["message"]["content"] for name, each in output.items()}
    assert answers == {"one": "You said one.", "two": "You said two."}
    assert errors["bad"]["response"]["status_code"] == 400
    assert (again.filename, again.purpose, again.bytes) == ("in.jsonl", "batch", file.bytes)
    assert status.outcome == "answered"
    assert len(wire.requests) == 3


async def test_responses_and_embeddings_are_lines_too(
    server_env: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As their endpoints would answer."""

    def replies(body: dict) -> dict:
        if "input" in body:
            data = [{"index": i, "embedding": vector(text)} for i, text in enumerate(body["input"])]
            return {"body": {"data": data, "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}}}
        return says(body)

    async with (
        batching(server_env.client, tmp_path, monkeypatch, {"by_request": replies}) as (_, dispatcher),
        serving(dispatcher) as front,
    ):
        ask = {"custom_id": "r", "method": "POST", "url": "/v1/responses", "body": {"model": "fast", "input": "Hi"}}
        embed = {**ask, "url": "/v1/embeddings", "body": {"model": "fast", "input": ["one"]}}
        response = await ended(front, await made(front, [ask], "/v1/responses"))
        vectors = await ended(front, await made(front, [embed], "/v1/embeddings"))
        answered = (await lines_of(front, response.output_file_id))["r"]["response"]["body"]
        embedded = (await lines_of(front, vectors.output_file_id))["r"]["response"]["body"]
    assert answered["output"][0]["content"][0]["text"] == "You said Hi."
    assert embedded["data"][0]["embedding"] == vector("one")


async def test_a_batch_goes_on_where_another_front_has_left_it(
    server_env: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The front that stops hands it over; nothing that was asked is asked again."""
    asked, may_answer = asyncio.Event(), asyncio.Event()

    def replies(body: dict) -> dict:
        if body["messages"][-1]["content"] != "held":
            return says(body)
        asked.set()
        answer = json.dumps(completion("late")).encode()
        return {"fault": "steps", "steps": [("wait", may_answer), ("data", answer.decode()), ("end",)], "headers": JSON}

    async with batching(server_env.client, tmp_path, monkeypatch, {"by_request": replies}) as (wire, dispatcher):
        async with serving(dispatcher) as front:
            batch = await made(front, [line("one"), line("held")])
            await asked.wait()
            while (found := await front.openai.batches.retrieve(batch.id)).request_counts.completed == 0:
                await asyncio.sleep(0.1)
            assert found.status == "in_progress"
        may_answer.set()
        async with serving(dispatcher) as front:
            done = await ended(front, batch)
            output = await lines_of(front, done.output_file_id)
    assert done.status == "completed"
    assert set(output) == {"one", "held"}
    assert len(wire.requests) == 2


JSON = {"content-type": "application/json"}


async def test_a_cancelled_batch_keeps_what_it_has(
    server_env: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its running calls are cancelled, and the answers are there."""
    asked = asyncio.Event()

    def replies(body: dict) -> dict:
        if body["messages"][-1]["content"] != "held":
            return says(body)
        asked.set()
        return {"fault": "timeout"}

    async with (
        batching(server_env.client, tmp_path, monkeypatch, {"by_request": replies}) as (_, dispatcher),
        serving(dispatcher) as front,
    ):
        batch = await made(front, [line("one"), line("held")])
        await asked.wait()
        while (await dispatcher.attach(f"local/{batch.id}/one").status()).outcome == "running":
            await asyncio.sleep(0.05)
        assert (await front.openai.batches.cancel(batch.id)).status == "cancelling"
        done = await ended(front, batch)
        output = await lines_of(front, done.output_file_id)
        held = dispatcher.attach(f"local/{batch.id}/held")
        while (await held.status()).outcome == "running":
            await asyncio.sleep(0.05)
        assert (await held.status()).outcome == "cancelled"
        assert (await front.openai.batches.cancel(batch.id)).status == "cancelled"
    assert (done.status, set(output)) == ("cancelled", {"one"})


async def test_files_and_batches_are_their_tenants(
    server_env: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others do not exist; the store holds no readable prompt where keys are set."""
    client = await client_with(server_env, "2026-11")
    tokens = [Token(hashlib.sha256(name.encode()).hexdigest(), name) for name in ("team-a", "team-b")]
    async with (
        batching(client, tmp_path, monkeypatch, {"by_request": says}) as (_, dispatcher),
        serving(dispatcher, tokens=tokens, token="team-a") as front,
        serving(dispatcher, tokens=tokens, token="team-b", runs=False) as other,
    ):
        batch = await made(front, [line("one", "my secret")])
        await made(other, [line("one")])
        done = await ended(front, batch)
        listed = [each.id async for each in front.openai.batches.list()]
        while not listed:  # Temporal lists it a moment later
            listed = [each.id async for each in front.openai.batches.list()]
        for path in (
            f"/v1/batches/{batch.id}",
            f"/v1/files/{done.output_file_id}",
            f"/v1/files/{batch.input_file_id}/content",
        ):
            assert (await other.http.get(path)).status_code == 404
            assert (await front.http.get(path)).status_code == 200
        assert (await other.http.post(f"/v1/batches/{batch.id}/cancel")).status_code == 404
    assert listed == [batch.id]
    kept = [path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert kept
    assert not any(b"my secret" in content for content in kept)


async def test_a_batch_whose_chain_is_gone_has_failed(
    server_env: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says why, and is not tried for ever."""
    async with batching(server_env.client, tmp_path, monkeypatch, {"by_request": says}) as (_, dispatcher):
        async with serving(dispatcher, runs=False) as front:
            batch = await made(front, [line("one")])
        (tmp_path / "chains.yaml").write_text("slow: {models: [openai/gpt-4o]}")
        async with serving(dispatcher) as front:
            done = await ended(front, batch)
    assert done.status == "failed"
    assert done.errors is not None
    assert "there is no model 'fast'" in done.errors.data[0].message


BAD = [
    ([line("one"), line("one")], {}, "is there twice"),
    ([line("one", url="/v1/other")], {}, "expected method POST"),
    ([line("one", body={"model": "none", "messages": []})], {}, "line 1: there is no model 'none'"),
    ([line("one", body={**line("x")["body"], "stream": True})], {}, "'stream' is not for batches"),
    ([line("one", body={**line("x")["body"], "made_up": 1})], {}, "made_up"),
    ([{"custom_id": 1}], {}, "custom_id: expected a text"),
    ([line("x" * 2000)], {}, "line 1: call_id"),
    ([], {}, "the file has no lines"),
    ([line("one")], {"endpoint": "/v1/moderations"}, "endpoint: expected one of"),
    ([line("one")], {"completion_window": "soon"}, "completion_window: expected"),
    ([line("one")], {"completion_window": "99d"}, "completion_window: expected"),
    ([line("one")], {"input_file_id": "file-none"}, "there is no file"),
    ([line("one")], {"made_up": 1}, "made_up"),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "body", "told"), BAD, ids=[told for _, _, told in BAD])
async def test_a_batch_that_cannot_be_asked_is_refused(
    server_env: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list, body: dict, told: str
) -> None:
    """Before anything is sent, with the number of the line."""
    async with (
        batching(server_env.client, tmp_path, monkeypatch, {"by_request": says}) as (wire, dispatcher),
        serving(dispatcher) as front,
    ):
        content = "\n".join(map(json.dumps, lines)).encode()
        file = await front.openai.files.create(file=("in.jsonl", content), purpose="batch")
        asked = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h", **body}
        refused = await front.http.post("/v1/batches", json=asked)
    assert refused.status_code in (400, 404), refused.text
    assert told in refused.json()["error"]["message"]
    assert not wire.requests


async def test_a_file_needs_a_store_and_a_purpose(
    server_env: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what is missing; a client does not send it again."""
    async with working(server_env.client) as dispatcher:
        write_chain(tmp_path, monkeypatch, "http://127.0.0.1:1")
        async with serving(dispatcher) as front:
            with pytest.raises(openai.APIStatusError) as without:
                await front.openai.files.create(file=("in.jsonl", b"{}"), purpose="batch")
            for data, files in (
                ({"purpose": "other"}, {"file": b"{}"}),
                ({"purpose": "batch"}, {"file": b"\xff"}),
                ({}, {}),
            ):
                refused = await front.http.post("/v1/files", data=data, files=files or None)
                assert refused.status_code == 400
            assert (await front.http.get("/v1/batches?limit=x")).status_code == 400
    assert without.value.status_code == 501
    assert "DURABLE_LLM_STORE" in without.value.body["message"]
