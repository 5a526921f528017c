"""The front's endpoints, asked by OpenAI's own client and by raw HTTP, over the real call."""

import asyncio
import base64
import json
from array import array
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from temporalio.testing import WorkflowEnvironment

from durable_llm import Dispatcher, InvalidRequestError
from durable_llm.client.tokens import Token, new_token, read_tokens
from durable_llm.contract.facts import FailureFacts, LocalFault
from durable_llm.contract.request import AttemptOrder
from durable_llm.contract.result import Answer
from durable_llm.streams import open_streams
from tests.client.test_embeddings import GOOD, vector
from tests.client.test_stream import WHOLE, chunk, says, streams
from tests.conftest import SetStage
from tests.front.serving import HI, serving, write_chain
from tests.support.scripted import answer, fresh_id, http_error, never
from tests.support.wire import playing
from tests.support.workers import working
from workers.front.access import Chains


async def test_openais_client_gets_an_answer(on_server: SetStage, chains: dict) -> None:
    """Text, model, usage, and headers that tell of the call; a chain brings its own parameters."""
    async with on_server(answer("yes")) as stage, serving(stage.dispatcher) as front:
        raw = await front.openai.chat.completions.with_raw_response.create(model="slow", messages=HI, seed=7)
        completion = raw.parse()
        listed = [model.id async for model in front.openai.models.list()]
        fetched = await front.http.get(f"/v1/chat/completions/{completion.id}")
    assert completion.choices[0].message.content == "yes"
    assert completion.usage is not None
    assert completion.usage.prompt_tokens == 5
    assert listed == ["fast", "slow"]
    assert raw.headers["x-durable-llm-call-id"] == completion.id
    assert raw.headers["x-durable-llm-attempts"] == "1"
    assert raw.headers["x-durable-llm-model"] == "gpt-4o-mini-2024-07-18"
    assert float(raw.headers["x-durable-llm-cost-usd"]) == 0.01
    assert raw.headers["idempotent-replayed"] == "false"
    assert fetched.json()["choices"][0]["message"]["content"] == "yes"
    [order] = stage.provider.orders
    assert (order.spec.name, order.spec.extra_params) == ("openai/gpt-4o", {"temperature": 0.5, "seed": 7})


async def test_the_same_key_is_asked_once(on_server: SetStage, chains: dict) -> None:
    """A running call is attached to, an ended one is replayed, another body is a conflict that names the part."""
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def held(_: AttemptOrder) -> Answer:
        asked.set()
        await may_answer.wait()
        return answer("once")

    key = fresh_id()
    async with on_server(held) as stage, serving(stage.dispatcher) as front:
        first = asyncio.create_task(front.ask(key=key))
        await asked.wait()
        second = asyncio.create_task(front.ask(key=key))
        running = await front.http.get(f"/v1/chat/completions/local/{key}")
        may_answer.set()
        answers = [await first, await second, await front.ask(key=key)]
        other = await front.ask(key=key, prompt="Another.")
    assert [each.json()["choices"][0]["message"]["content"] for each in answers] == ["once"] * 3
    assert [each.headers["idempotent-replayed"] for each in answers] == ["false", "true", "true"]
    assert (running.status_code, running.json()["status"]) == (202, "running")
    assert (other.status_code, other.json()["error"]["param"]) == (409, "messages")
    assert len(stage.provider.orders) == 1


async def test_a_client_that_goes_away_cancels_only_what_nobody_can_fetch(on_server: SetStage, chains: dict) -> None:
    """Without a key the call ends with its client; with one it goes on, until it is deleted."""
    async with on_server(never) as stage, serving(stage.dispatcher) as front:
        for key in (None, fresh_id()):
            before = len(stage.provider.orders)
            asking = asyncio.create_task(front.ask(key=key))
            while len(stage.provider.orders) == before:
                await asyncio.sleep(0.02)
            [newest] = [row for row in await _rows(stage.dispatcher, before + 1) if row.outcome == "running"]
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            handle = stage.dispatcher.attach(newest.call_id)
            if key is not None:
                await asyncio.sleep(0.5)
                assert (await handle.status()).outcome == "running"
                deleted = await front.http.delete(f"/v1/chat/completions/{newest.call_id}")
                assert deleted.json() == {"id": newest.call_id, "object": "chat.completion.deleted", "deleted": True}
            while (await handle.status()).outcome == "running":
                await asyncio.sleep(0.05)


async def _rows(dispatcher: Dispatcher, count: int) -> list[Any]:
    """The calls of the dispatcher's queue, once Temporal lists them."""
    while len(rows := await dispatcher.find(f"TaskQueue = '{dispatcher.task_queue}'")) < count:
        await asyncio.sleep(0.05)
    return rows


async def test_a_token_has_only_so_many_requests_open(
    server_env: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream is one until its last event, whether it is read to its end or left. Other tokens are not held up."""
    file, may_go_on = tmp_path / "tokens.yaml", asyncio.Event()
    limited, other = new_token(file, "team-a", [], 1), new_token(file, "team-b", [])
    half = streams(("data", chunk(content="One ")), ("wait", may_go_on), *says("two."))
    async with (
        playing(half) as wire,
        working(server_env.client, streams=open_streams((tmp_path / "streams").as_uri())) as dispatcher,
    ):
        write_chain(tmp_path, monkeypatch, wire.url)
        tokens = read_tokens(file)
        async with (
            serving(dispatcher, tokens=tokens, token=limited) as front,
            serving(dispatcher, tokens=tokens, token=other) as free,
        ):
            body = {"model": "fast", "messages": HI, "stream": True}
            for is_left in (True, False):
                async with front.http.stream("POST", "/v1/chat/completions", json=body) as response:
                    lines = response.aiter_lines()
                    while "One" not in await anext(lines):
                        pass
                    refused = await front.http.get("/v1/models")
                    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
                    assert (await free.http.get("/v1/models")).status_code == 200
                    if not is_left:
                        may_go_on.set()
                        assert "data: [DONE]" in [line async for line in lines]
                while (await front.http.get("/v1/models")).status_code == 429:
                    await asyncio.sleep(0.05)


async def test_the_ledger_is_in_the_body_of_who_asks_for_it(on_server: SetStage, chains: dict) -> None:
    """Of answers and of errors."""
    failing = http_error(500, text="oops")
    async with on_server(failing, answer("yes"), http_error(401)) as stage, serving(stage.dispatcher) as front:
        front.http.headers["x-durable-llm-ledger"] = "true"
        answered, failed = await front.ask(), await front.ask("slow")
    told = answered.json()["durable_llm"]
    assert [entry["outcome"] for entry in told["attempts"]] == ["failed", "answered"]
    assert told["attempts"][0]["message"] == "500 failed: oops"
    assert failed.json()["durable_llm"]["attempts"][0]["http_status"] == 401
    assert "yes" not in str(told)


async def test_an_error_has_its_status_and_is_not_retried(on_server: SetStage, chains: dict) -> None:
    """OpenAI's client, which retries twice, asks once: the call has done what it could."""
    failures = (http_error(401, text="no such key"), http_error(400, "invalid_value", "bad"))
    async with on_server(*failures) as stage, serving(stage.dispatcher) as front:
        with pytest.raises(openai.InternalServerError) as exhausted:
            await front.openai.chat.completions.create(model="slow", messages=HI)
        with pytest.raises(openai.BadRequestError) as rejected:
            await front.openai.chat.completions.create(model="slow", messages=HI)
    assert exhausted.value.body["type"] == "AllModelsExhaustedError"
    assert rejected.value.body["type"] == "RequestRejectedError"
    assert len(stage.provider.orders) == 2


async def test_a_spent_budget_is_a_402_that_is_not_retried(on_server: SetStage, chains: dict) -> None:
    """No other model was asked; the chain's own priority and the caller's tenant are those of the call."""
    spent = FailureFacts(local_fault=LocalFault.BUDGET_SPENT, text="budget 'x': $5 of $5 is spent", request_sent="no")
    async with on_server(spent) as stage, serving(stage.dispatcher) as front:
        with pytest.raises(openai.APIStatusError) as refused:
            await front.openai.chat.completions.create(
                model="fast", messages=HI, extra_headers={"Idempotency-Key": (key := fresh_id())}
            )
        history = await stage.client.get_workflow_handle(f"local/{key}").fetch_history()
    assert (refused.value.status_code, refused.value.body["type"]) == (402, "BudgetExceededError")
    assert len(stage.provider.orders) == 1
    kept = history.events[0].workflow_execution_started_event_attributes.priority
    assert (kept.fairness_key, kept.priority_key) == ("local", 2)


BAD = [
    ({"content": b"{broken"}, 400, "not JSON"),
    ({"json": []}, 400, "expected a JSON object"),
    ({"json": {"model": "fast"}}, 400, "no 'messages'"),
    ({"json": {"model": "none", "messages": HI}}, 404, "there are: fast, slow"),
    ({"json": {"model": "openai/gpt-4o", "messages": HI}}, 404, "there is no model"),
    ({"json": {"model": "fast", "messages": HI, "made_up": 1}}, 400, "made_up"),
    ({"json": {"model": "fast", "messages": []}}, 400, "messages"),
    ({"json": {"model": "fast", "messages": HI}, "headers": {"idempotency-key": "x" * 2000}}, 400, "call_id"),
    ({"json": {"model": "fast", "messages": HI}, "headers": {"idempotency-key": ""}}, 400, "it is empty"),
    ({"json": {"model": "fast", "messages": HI}, "headers": {"x-durable-llm-stream": "maybe"}}, 400, "live or settled"),
]


@pytest.mark.parametrize(("request_", "status", "says"), BAD, ids=[f"{status} {says}" for _, status, says in BAD])
async def test_a_bad_request_is_refused_in_openais_shape(
    on_server: SetStage, chains: dict, request_: dict, status: int, says: str
) -> None:
    """Before anything is sent, with what is wrong."""
    async with on_server(answer("yes")) as stage, serving(stage.dispatcher) as front:
        response = await front.http.post("/v1/chat/completions", **request_)
    assert response.status_code == status, response.text
    assert says in response.json()["error"]["message"]
    assert not stage.provider.orders


async def test_a_body_that_is_too_large_is_not_read(on_server: SetStage, chains: dict) -> None:
    """Whether its length is told or not, it is refused, and the front goes on."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b"x" * 100_000

    async with on_server(answer("yes")) as stage, serving(stage.dispatcher) as front:
        for content in (b"x" * 2_000_000, pieces()):
            assert (await front.http.post("/v1/chat/completions", content=content)).status_code == 413
        assert (await front.ask()).status_code == 200


async def test_models_are_asked_directly_where_the_operator_allows_it(on_server: SetStage, chains: dict) -> None:
    """A caller who is bound to chains stays bound."""
    bound = [Token("0" * 64, "bound", ("fast",))]
    async with on_server(answer("yes")) as stage:
        async with serving(stage.dispatcher, models=True) as front:
            assert (await front.ask("openai/gpt-4o")).status_code == 200
        assert Chains(models=True).names(bound[0]) == ["fast"]
    assert stage.provider.models == ["openai/gpt-4o"]


async def test_a_token_opens_its_chains_and_its_own_calls(on_server: SetStage, chains: dict, tmp_path: Path) -> None:
    """Without one nothing is answered; with one its tenant's chains and calls are, and no one else's."""
    file = tmp_path / "tokens.yaml"
    first, second = new_token(file, "team-a", ["fast"]), new_token(file, "team-b", [])
    assert file.stat().st_mode & 0o077 == 0
    assert first not in file.read_text()
    async with on_server(answer("yes")) as stage:
        tokens = read_tokens(file)
        async with (
            serving(stage.dispatcher, tokens=tokens, token=first) as front,
            serving(stage.dispatcher, tokens=tokens, token=second) as other,
            serving(stage.dispatcher, tokens=tokens, token="dllm-wrong") as stranger,
        ):
            assert (await stranger.ask()).status_code == 401
            assert (await stranger.http.get("/v1/models")).status_code == 401
            assert (await stranger.http.get("/healthz")).status_code == 200
            assert [model["id"] for model in (await front.http.get("/v1/models")).json()["data"]] == ["fast"]
            assert (await front.ask("slow")).status_code == 404
            completion = (await front.ask()).json()
            assert completion["id"].startswith("team-a/")
            place = f"/v1/chat/completions/{completion['id']}"
            assert (await front.http.get(place)).status_code == 200
            assert (await other.http.get(place)).status_code == 404
            assert (await other.http.delete(place)).status_code == 404
            both = [await front.ask(key="k"), await other.ask(key="k", prompt="Mine.")]
    assert [response.status_code for response in both] == [200, 200]
    assert len(stage.provider.orders) == 3


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not YAML"),
        ("a: b", "expected a list"),
        ("- tenant: a", "entry 1"),
        ("- {hash: x, tenant: a}", "entry 1"),
        (f"- {{hash: {'0' * 64}, tenant: a/b}}", "entry 1"),
        (f"- {{hash: {'0' * 64}, tenant: a, chain: x}}", "entry 1"),
        (f"- {{hash: {'0' * 64}, tenant: a, chains: x}}", "entry 1"),
        (f"- {{hash: {'0' * 64}, tenant: a, max_open: 0}}", "entry 1"),
        (f"- {{hash: {'0' * 64}, tenant: a, max_open: x}}", "entry 1"),
    ],
)
def test_a_wrong_file_of_tokens_is_refused(tmp_path: Path, content: str, says: str) -> None:
    """A front does not start with a file that it cannot read."""
    (tmp_path / "tokens.yaml").write_text(content)
    with pytest.raises(InvalidRequestError, match=says):
        read_tokens(tmp_path / "tokens.yaml")
    with pytest.raises(InvalidRequestError):
        read_tokens(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not YAML"), ("[]", "expected names of chains"), ("fast: {}", "expected names of chains"),
        ("a/b: {models: [openai/x]}", "no '/'"), ("fast: {models: [openai/x], polcy: {}}", "unknown 'polcy'"),
        ("fast: {models: []}", "chain fast"), ("fast: {models: [openai/x], policy: {patience: x}}", "chain fast"),
        ("fast: {models: [{name: openai/x, api_key: sk-a1B2a1B2a1B2a1B2a1B2}]}", "chain fast"),
        ("fast: {models: [openai/x], stream: maybe}", "live or settled"),
    ],
)  # fmt: skip
def test_a_wrong_file_of_chains_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, says: str
) -> None:
    """It names the chain, and repeats no key."""
    (tmp_path / "chains.yaml").write_text(content)
    monkeypatch.setenv("DURABLE_LLM_CHAINS", str(tmp_path / "chains.yaml"))
    with pytest.raises(InvalidRequestError, match=says) as refused:
        Chains(models=False)
    assert "a1B2" not in str(refused.value)


@pytest.mark.parametrize("mode", ["live", "settled"])
async def test_a_stream_ends_with_the_whole_answer(
    server_env: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Piece by piece, or in one piece once it is sure."""
    async with (
        playing(WHOLE if mode == "live" else {"body": _completion()}) as wire,
        working(server_env.client, streams=open_streams(tmp_path.as_uri())) as dispatcher,
    ):
        write_chain(tmp_path, monkeypatch, wire.url)
        async with serving(dispatcher) as front:
            chunks = [
                each
                async for each in await front.openai.chat.completions.create(
                    model="fast", messages=HI, stream=True, extra_headers={"x-durable-llm-stream": mode}
                )
            ]
    assert "".join(each.choices[0].delta.content or "" for each in chunks) == "The right answer."
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_withdrawn_text_ends_a_live_stream_and_the_key_has_the_answer(
    server_env: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream ends with an error event; the call goes on, and the same key replays its answer."""
    seen, key = asyncio.Event(), fresh_id()
    cut = {**streams(("data", chunk(content="The wrong ")), ("wait", seen), ("reset",)), "then": WHOLE}
    async with (
        playing(cut) as wire,
        working(server_env.client, streams=open_streams(tmp_path.as_uri())) as dispatcher,
    ):
        write_chain(tmp_path, monkeypatch, wire.url)
        async with serving(dispatcher) as front:
            lines = []
            body = {"model": "fast", "messages": HI, "stream": True}
            async with front.http.stream(
                "POST", "/v1/chat/completions", json=body, headers={"idempotency-key": key}
            ) as response:
                async for line in response.aiter_lines():
                    lines.append(line)
                    seen.set()
            again = await front.ask(key=key)
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    assert events[0]["choices"][0]["delta"]["content"] == "The wrong "
    assert "withdrawn" in events[-1]["error"]["message"]
    assert again.json()["choices"][0]["message"]["content"] == "The right answer."
    assert again.headers["idempotent-replayed"] == "true"


async def test_a_stopping_front_hands_open_requests_back(on_server: SetStage, chains: dict) -> None:
    """503 and Retry-After; with the same key another front gives the answer, and it is asked once."""
    asked, may_answer, key = asyncio.Event(), asyncio.Event(), fresh_id()

    async def held(_: AttemptOrder) -> Answer:
        asked.set()
        await may_answer.wait()
        return answer("once")

    async with on_server(held) as stage, serving(stage.dispatcher) as front:
        asking = asyncio.create_task(front.ask(key=key))
        await asked.wait()
        assert (await front.http.get("/readyz")).status_code == 200
        front.front.draining.set()
        handed_back = await asking
        assert (await front.http.get("/readyz")).status_code == 503
        may_answer.set()
        async with serving(stage.dispatcher) as other:
            answered = await other.ask(key=key)
    assert (handed_back.status_code, handed_back.headers["retry-after"]) == (503, "1")
    assert "x-should-retry" not in handed_back.headers
    assert answered.json()["choices"][0]["message"]["content"] == "once"
    assert len(stage.provider.orders) == 1


def _completion() -> dict:
    choice = {"index": 0, "message": {"role": "assistant", "content": "The right answer."}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
    return {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


def numbers(embedding: list[float] | str) -> list[float]:
    return list(array("f", base64.b64decode(embedding))) if isinstance(embedding, str) else embedding


async def test_openais_client_gets_vectors(
    server_env: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In both encodings, in order; with a key nothing is asked again; what is no text is refused."""
    async with playing(GOOD) as wire, working(server_env.client) as dispatcher:
        write_chain(tmp_path, monkeypatch, wire.url)
        async with serving(dispatcher) as front:
            for form in ("float", "base64"):
                found = await front.openai.embeddings.create(
                    model="fast", input=["one", "three"], encoding_format=form, dimensions=4,
                    extra_headers={"idempotency-key": "vectors"},
                )  # fmt: skip
                assert [numbers(each.embedding) for each in found.data] == [vector("one"), vector("three")]
            single = await front.http.post("/v1/embeddings", json={"model": "fast", "input": "one"})
            for wrong in ({"input": [1, 2]}, {"input": "x", "made_up": 1}, {"input": "x", "encoding_format": "x"}, {}):
                refused = await front.http.post("/v1/embeddings", json={"model": "fast", **wrong})
                assert refused.status_code == 400, refused.text
    assert found.usage.prompt_tokens == 2
    assert single.json()["data"][0]["embedding"] == vector("one")
    assert len(wire.requests) == 2
