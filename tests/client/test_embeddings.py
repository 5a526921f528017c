"""Texts to vectors: one vector for each text, in order, from one model, whatever the provider does."""

import asyncio
import base64
import json
import math
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import numpy
import pytest
from temporalio.testing import WorkflowEnvironment

from durable_llm import (
    AllModelsExhaustedError,
    CallConflictError,
    Dispatcher,
    DurableLLMError,
    InvalidRequestError,
    LLMConfig,
    ModelSpec,
    Policy,
    TextsRejectedError,
)
from durable_llm.client.batches import batches
from durable_llm.contract.vectors import Vectors
from durable_llm.store import Store
from tests.support.encryption import client_with
from tests.support.scripted import fresh_id
from tests.support.stores import Memory
from tests.support.wire import Wire, playing
from tests.support.workers import working

QUICK = Policy(patience=timedelta(0), backoff_initial=timedelta(milliseconds=1), backoff_cap=timedelta(milliseconds=1))
MODEL = "openai/made-up-embedding"
"""Not in litellm's list, so nothing is known of its vectors."""


def vector(text: str, dimensions: int = 4) -> list[float]:
    """What the provider makes of a text."""
    return [float(len(text)), *(float(ord(text[0])) for _ in range(dimensions - 1))]


def answer(texts: list[str], dimensions: int = 4, **changes: object) -> dict:
    """A good answer, in another order than the texts."""
    data = [
        {"object": "embedding", "index": at, "embedding": vector(text, dimensions)} for at, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
    return {"body": {"object": "list", "model": "made-up-1", "data": data[::-1], "usage": usage, **changes}}


def refusal(message: str = "This text cannot be embedded", code: str = "invalid_value", status: int = 400) -> dict:
    return {"http_status": status, "body": {"error": {"message": message, "type": "invalid", "code": code}}}


def good(body: dict) -> dict:
    return answer(body["input"], body.get("dimensions", 4))


def rejects(*bad: str, code: str = "invalid_value") -> dict:
    """A provider that refuses a request as a whole if one of these texts is in it."""
    return {"by_request": lambda body: refusal(code=code) if set(bad) & set(body["input"]) else good(body)}


GOOD = {"by_request": good}


def asked(wire: Wire) -> list[list[str]]:
    """The texts of each request that the provider got."""
    return [json.loads(request.partition(b"\r\n\r\n")[2])["input"] for request in wire.requests]


def spec(wire: Wire, name: str = MODEL, **fields: object) -> ModelSpec:
    return ModelSpec(name=name, api_base=wire.url, **fields)


@asynccontextmanager
async def served(env: WorkflowEnvironment, case: dict, **options: object) -> AsyncIterator[tuple[Dispatcher, Wire]]:
    """A dispatcher with a worker, and a provider."""
    async with playing(case) as wire, working(env.client, **options) as dispatcher:
        yield dispatcher, wire


def test_batches_keep_the_order_and_the_limits() -> None:
    """Every text is in one batch, and no batch has too many texts or too many bytes, unless one text alone does."""
    texts = ["a"] * 200
    assert [len(batch) for batch in batches(texts, [MODEL])] == [48, 48, 48, 48, 8]
    assert [len(batch) for batch in batches(texts, [MODEL], 150)] == [150, 50]
    assert [len(batch) for batch in batches(["x" * 30_000] * 4, ["mistral/mistral-embed"])] == [1, 1, 1, 1]
    assert [len(batch) for batch in batches(["x" * 24_000] * 4, ["mistral/mistral-embed"])] == [2, 2]
    assert [len(batch) for batch in batches(["x" * 24_000] * 4, [MODEL, "mistral/mistral-embed"])] == [2, 2]
    assert [len(batch) for batch in batches(["x", "y"], ["vertex_ai/gemini-embedding-001"])] == [1, 1]
    assert [len(batch) for batch in batches(["x" * 10**6, "y"], [MODEL])] == [1, 1]
    assert [place for batch in batches(texts, [MODEL]) for place in batch] == list(range(200))


async def test_each_text_has_its_vector(server_env: WorkflowEnvironment) -> None:
    """In the texts' order, whatever order the provider has; with the model, tokens and ledger of each batch."""
    texts = [f"{chr(97 + number)}{'x' * number}" for number in range(10)]
    call_id = fresh_id()
    async with served(server_env, GOOD) as (dispatcher, wire):
        found = await dispatcher.embed(spec(wire), texts, batch_size=4, call_id=call_id)
    assert [list(one) for one in found.vectors] == [vector(text) for text in texts]
    assert sorted(map(len, asked(wire))) == [2, 4, 4]
    assert (found.model, found.dimensions, found.prompt_tokens, found.attempts_total) == ("made-up-1", 4, 10, 3)
    assert [call.attempts[0].outcome for call in found.calls] == ["answered"] * 3
    assert found.numpy().shape == (10, 4)
    assert found.numpy().dtype == numpy.float32
    assert all(call.vectors is None for call in found.calls)


async def test_what_was_answered_is_not_asked_again(server_env: WorkflowEnvironment) -> None:
    """The id is the checkpoint: a second run asks only for texts that are new."""
    call_id = fresh_id()
    async with served(server_env, GOOD) as (dispatcher, wire):
        await dispatcher.embed(spec(wire), ["a", "b", "c", "d"], batch_size=2, call_id=call_id)
        again = await dispatcher.embed(spec(wire), ["a", "b", "c", "d", "e"], batch_size=2, call_id=call_id)
        other = (
            await dispatcher.embed(spec(wire), ["a", "b"], batch_size=2, call_id=call_id, dimensions=4) if 0 else None
        )
    assert other is None
    assert [list(one) for one in again.vectors] == [vector(text) for text in "abcde"]
    assert sorted(asked(wire)) == [["a", "b"], ["c", "d"], ["e"]]


async def test_an_id_belongs_to_one_model(server_env: WorkflowEnvironment) -> None:
    """Vectors of another model, or of another length, are not given under the same id."""
    call_id = fresh_id()
    async with served(server_env, GOOD) as (dispatcher, wire):
        await dispatcher.embed(spec(wire), ["a"], call_id=call_id)
        with pytest.raises(CallConflictError) as other_model:
            await dispatcher.embed(spec(wire, "openai/another"), ["a"], call_id=call_id)
        with pytest.raises(CallConflictError) as other_length:
            await dispatcher.embed(spec(wire, MODEL), ["a"], call_id=call_id, dimensions=8)
    assert other_model.value.differing == ("models",)
    assert other_length.value.differing == ("texts",)


def changed(change: Callable[[list[dict]], object]) -> Callable[[dict], dict]:
    """An answer whose list of vectors was changed."""

    def by_request(body: dict) -> dict:
        case = answer(body["input"])
        change(case["body"]["data"])
        return case

    return by_request


WRONG: dict[str, Callable[[dict], dict]] = {
    "one is missing": changed(lambda data: data.pop()),
    "one too many": changed(lambda data: data.append({"index": 3, "embedding": [1.0] * 4})),
    "twice the same": changed(lambda data: data[0].update(index=0)),
    "a gap": changed(lambda data: data[0].update(index=7)),
    "a negative index": changed(lambda data: data[0].update(index=-1)),
    "an index that is no number": changed(lambda data: data[0].update(index="2")),
    "an empty vector": changed(lambda data: data[1].update(embedding=[])),
    "null": changed(lambda data: data[1].update(embedding=None)),
    "a component that is no number": changed(lambda data: data[1].update(embedding=[1.0, None, 1.0, 1.0])),
    "a component that is text": changed(lambda data: data[1].update(embedding=[1.0, "2", 1.0, 1.0])),
    "a component beyond 32 bits": changed(lambda data: data[1].update(embedding=[1.0, 1e300, 1.0, 1.0])),
    "different lengths": changed(lambda data: data[1].update(embedding=[1.0] * 5)),
    "broken base64": changed(lambda data: data[1].update(embedding="nonsense!")),
    "no list": lambda body: answer(body["input"], data=None),
    "an error in a 200": lambda _: {"body": {"error": {"message": "overloaded", "type": "server_error"}}},
    "no JSON": lambda _: {"body": "<html>welcome</html>"},
    "nothing": lambda _: {"body": ""},
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_wrong_vectors_are_asked_again(server_env: WorkflowEnvironment, wrong: str) -> None:
    """An answer that is not one vector for each text is refused, says why, and costs a retry like any other."""
    texts = ["a", "bb", "ccc"]
    async with served(server_env, {"by_request": WRONG[wrong], "then": GOOD}) as (dispatcher, wire):
        found = await dispatcher.embed(spec(wire), texts, policy=QUICK)
    assert [list(one) for one in found.vectors] == [vector(text) for text in texts]
    [call] = found.calls
    assert [entry.outcome for entry in call.attempts] == ["failed", "answered"]
    assert call.attempts[0].category in ("unusable_answer", "server_error", "overloaded")


@pytest.mark.parametrize(("name", "dimensions"), [("openai/text-embedding-3-small", None), (MODEL, 6)])
async def test_a_wrong_length_is_refused(server_env: WorkflowEnvironment, name: str, dimensions: int | None) -> None:
    """The length is the one that was asked for, or the one that the model is known to have."""
    known = dimensions or 1536
    case = {"by_request": lambda body: answer(body["input"], 4)}
    right = {"by_request": lambda body: answer(body["input"], known)}
    async with served(server_env, {**case, "then": right}) as (dispatcher, wire):
        model = spec(wire, name) if dimensions is None else spec(wire, "openai/text-embedding-3-x")
        found = await dispatcher.embed(model, ["a"], dimensions=dimensions, policy=QUICK)
    assert found.dimensions == known
    assert f"vectors of 4 dimensions instead of {known}" in (found.calls[0].attempts[0].message or "")


async def test_batches_of_different_lengths_are_no_answer(server_env: WorkflowEnvironment) -> None:
    """Where nobody knows the length, vectors of two lengths are an error that says what to pass."""
    case = {"by_request": lambda body: answer(body["input"], len(body["input"][0]))}
    async with served(server_env, case) as (dispatcher, wire):
        with pytest.raises(DurableLLMError, match="3 and 4 dimensions; pass dimensions"):
            await dispatcher.embed(spec(wire), ["aaa", "bbbb"], batch_size=1)


async def test_base64_is_read(server_env: WorkflowEnvironment) -> None:
    """With OpenAI's other encoding, a quarter of the bytes."""

    def by_request(body: dict) -> dict:
        case = answer(body["input"])
        for entry in case["body"]["data"]:
            entry["embedding"] = base64.b64encode(struct.pack("<4f", *entry["embedding"])).decode()
        return case

    async with served(server_env, {"by_request": by_request}) as (dispatcher, wire):
        model = spec(wire, extra_params={"encoding_format": "base64"})
        found = await dispatcher.embed(model, ["a", "bb"])
    assert [list(one) for one in found.vectors] == [vector("a"), vector("bb")]
    assert b'"encoding_format":"base64"' in wire.requests[0]


async def test_nothing_of_ours_is_sent(server_env: WorkflowEnvironment) -> None:
    """The body has what OpenAI's API takes and nothing else."""
    async with served(server_env, GOOD) as (dispatcher, wire):
        await dispatcher.embed(spec(wire, "openai/text-embedding-3-x"), ["a"], dimensions=4)
    body = json.loads(wire.requests[0].partition(b"\r\n\r\n")[2])
    assert body == {"model": "text-embedding-3-x", "input": ["a"], "dimensions": 4}


@pytest.mark.parametrize("code", ["invalid_value", "context_length_exceeded", "content_filter"])
async def test_bad_texts_are_found_and_named(server_env: WorkflowEnvironment, code: str) -> None:
    """Halves find the texts that a provider rejects; all are named, and the vectors of the others stay paid."""
    texts = [f"text {number}" for number in range(16)]
    call_id = fresh_id()
    async with served(server_env, rejects("text 3", "text 12", code=code)) as (dispatcher, wire):
        with pytest.raises(TextsRejectedError) as rejected:
            await dispatcher.embed(spec(wire), texts, batch_size=8, call_id=call_id, policy=QUICK)
        assert list(rejected.value.texts) == [3, 12]
        assert all("This text cannot be embedded" in reason for reason in rejected.value.texts.values())
        assert "texts[3]: 400" in rejected.value.message
        count = len(wire.requests)
        with pytest.raises(TextsRejectedError):
            await dispatcher.embed(spec(wire), texts, batch_size=8, call_id=call_id, policy=QUICK)
        assert len(wire.requests) == count  # a rerun costs nothing
        texts[3], texts[12] = "better 3", "better 12"
        found = await dispatcher.embed(spec(wire), texts, batch_size=8, call_id=call_id, policy=QUICK)
    assert [list(one) for one in found.vectors] == [vector(text) for text in texts]
    assert count <= 2 * 7


async def test_a_request_that_is_refused_as_a_whole_is_not_halved(server_env: WorkflowEnvironment) -> None:
    """What no text can have caused is raised at once."""
    async with served(server_env, refusal("no such model", "model_not_found", 404)) as (dispatcher, wire):
        with pytest.raises(AllModelsExhaustedError, match="no such model"):
            await dispatcher.embed(spec(wire), ["a"] * 40, policy=QUICK)
    assert len(wire.requests) == 1


async def test_the_search_for_bad_texts_ends(server_env: WorkflowEnvironment) -> None:
    """A provider that refuses every text is asked for some of them, not for all."""
    texts = [f"text {number}" for number in range(300)]
    async with served(server_env, refusal()) as (dispatcher, wire):
        with pytest.raises(TextsRejectedError, match=r"and \d+ more"):
            await dispatcher.embed(spec(wire), texts, policy=QUICK)
    assert len(wire.requests) < 80


async def test_other_accounts_of_the_model_take_over(server_env: WorkflowEnvironment) -> None:
    """The chain of a batch works as for any call, and the vectors are the same model's."""
    broken = {"http_status": 500, "body": {"error": {"message": "down"}}}
    async with playing(broken) as down, served(server_env, GOOD) as (dispatcher, wire):
        chain = LLMConfig(models=[spec(down, max_retries=0), spec(wire, f"hosted_vllm/{MODEL.partition('/')[2]}")])
        found = await dispatcher.embed(chain, ["a", "bb"], policy=QUICK)
    assert [list(one) for one in found.vectors] == [vector("a"), vector("bb")]
    assert [entry.outcome for entry in found.calls[0].attempts] == ["failed", "answered"]


async def test_another_model_is_refused_unless_allowed(server_env: WorkflowEnvironment) -> None:
    """Vectors of two models are never mixed: without permission nothing is sent, with it one model embeds all."""

    def half(body: dict) -> dict:
        return {"http_status": 500, "body": {"error": {"message": "down"}}} if "d" in body["input"] else good(body)

    other = {"by_request": lambda body: answer(body["input"], 6)}
    async with playing(other) as second, served(server_env, {"by_request": half}) as (dispatcher, first):
        chain = LLMConfig(models=[spec(first, max_retries=0), spec(second, "openai/another")])
        with pytest.raises(InvalidRequestError, match="their vectors cannot be compared"):
            await dispatcher.embed(chain, ["a", "b", "c", "d"])
        assert not first.requests
        call_id = fresh_id()
        for _ in range(2):  # a rerun comes to the same
            found = await dispatcher.embed(
                chain, ["a", "b", "c", "d"], batch_size=2, policy=QUICK, mixed_models=True, call_id=call_id
            )
            assert [list(one) for one in found.vectors] == [vector(text, 6) for text in "abcd"]
    assert sorted(asked(first)) == sorted(asked(second)) == [["a", "b"], ["c", "d"]]


async def test_a_batch_that_no_model_answers_raises(server_env: WorkflowEnvironment) -> None:
    """With the ledger of that batch, as any call does; a rerun with if_failed asks again."""
    call_id = fresh_id()
    broken = {"http_status": 500, "body": {"error": {"message": "down"}}}
    async with served(server_env, {**broken, "then": GOOD}) as (dispatcher, wire):
        options = {"policy": QUICK, "call_id": call_id}
        with pytest.raises(AllModelsExhaustedError) as exhausted:
            await dispatcher.embed(spec(wire, max_retries=0), ["a"], **options)
        with pytest.raises(AllModelsExhaustedError):
            await dispatcher.embed(spec(wire, max_retries=0), ["a"], **options)
        found = await dispatcher.embed(spec(wire, max_retries=0), ["a"], if_failed="rerun", **options)
    assert exhausted.value.attempts[0].category == "server_error"
    assert [list(one) for one in found.vectors] == [vector("a")]


async def test_a_caller_that_gives_up_leaves_nothing_running(server_env: WorkflowEnvironment) -> None:
    """Without an id nobody could attach to the batches, so they are cancelled; with one they go on."""
    async with served(server_env, {"fault": "timeout"}) as (dispatcher, wire):
        kept_id = fresh_id()
        tasks = [
            asyncio.create_task(dispatcher.embed(spec(wire), ["a"])),
            asyncio.create_task(dispatcher.embed(spec(wire), ["b"], call_id=kept_id)),
        ]
        while len(wire.requests) < 2:
            await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        calls = [call async for call in server_env.client.list_workflows(f"WorkflowId STARTS_WITH '{kept_id}/'")]
        [kept] = calls
        assert (await dispatcher.attach(kept.id).status()).outcome == "running"
        await dispatcher.attach(kept.id).cancel()


BAD = {
    "texts: expected a list of texts": ("a text", {}),
    "texts: expected a list of texts that is not empty": ([], {}),
    r"texts\[1\]: expected a text": (["a", " "], {}),
    r"texts\[0\]: expected a text": ([7], {}),
    "dimensions: expected a whole number above zero, got 0": (["a"], {"dimensions": 0}),
    "batch_size: expected a whole number": (["a"], {"batch_size": 1.5}),
    "concurrency: expected a whole number": (["a"], {"concurrency": True}),
    "if_failed: expected one of": (["a"], {"if_failed": "perhaps"}),
    "dimensions.*pass dimensions to embed": (["a"], {"extra": {"dimensions": 5}}),
}


@pytest.mark.parametrize("message", BAD)
async def test_bad_input_is_refused_before_anything_is_sent(server_env: WorkflowEnvironment, message: str) -> None:
    """The error names the part and says what to write."""
    texts, options = BAD[message]
    model: dict = {"name": MODEL, **({"extra_params": options["extra"]} if "extra" in options else {})}
    kept = {name: value for name, value in options.items() if name != "extra"}
    with pytest.raises(InvalidRequestError, match=message):
        await Dispatcher(server_env.client).embed({"models": [model]} if "extra" in options else MODEL, texts, **kept)


async def test_large_vectors_go_to_the_store(server_env: WorkflowEnvironment) -> None:
    """Above 512 KiB they are put where the client finds them, encrypted if payloads are."""
    memory = Memory()
    client = await client_with(server_env, "2026-11")
    case = {"by_request": lambda body: answer(body["input"], 4096)}
    async with (
        playing(case) as wire,
        working(client, store=Store(memory), worker_store=Store(memory)) as dispatcher,
    ):
        found = await dispatcher.embed(spec(wire), ["a", "bb"] * 24)
    assert [list(one) for one in found.vectors] == [vector("a", 4096), vector("bb", 4096)] * 24
    [content] = memory.contents.values()
    assert b"float32" not in content


async def test_vectors_that_fit_nowhere_are_an_error_that_says_what_to_do(server_env: WorkflowEnvironment) -> None:
    """Without a store, what Temporal would refuse ends the call with advice."""
    case = {"by_request": lambda body: answer(body["input"], 4096)}
    async with served(server_env, case) as (dispatcher, wire):
        with pytest.raises(AllModelsExhaustedError, match="or pass a smaller batch_size"):
            await dispatcher.embed(spec(wire), ["a"] * 96, batch_size=96, policy=QUICK)
        assert (await dispatcher.embed(spec(wire), ["a"] * 90)).dimensions == 4096


async def test_a_client_without_the_store_says_so(server_env: WorkflowEnvironment) -> None:
    """The vectors are there; this process cannot fetch them."""
    case = {"by_request": lambda body: answer(body["input"], 4096)}
    async with served(server_env, case, worker_store=Store(Memory())) as (dispatcher, wire):
        with pytest.raises(InvalidRequestError, match="set DURABLE_LLM_STORE as the workers do"):
            await dispatcher.embed(spec(wire), ["a"] * 48)


def test_packed_vectors_come_back() -> None:
    """As 32-bit floats, exactly; what is not a number is refused."""
    rows = [[0.1, -2.5, 3e-38], [1.0, 2.0, 3.0]]
    found = Vectors.pack(rows).rows()
    assert [len(row) for row in found] == [3, 3]
    assert all(
        math.isclose(a, b, rel_tol=1e-6)
        for row, given in zip(found, rows, strict=True)
        for a, b in zip(row, given, strict=True)
    )
    assert Vectors.pack([list(row) for row in found]).rows() == found
    for bad in ([[1.0], [1.0, 2.0]], [[math.nan]], [[math.inf]]):
        with pytest.raises(ValueError, match=r"dimensions|finite"):
            Vectors.pack(bad)
    with pytest.raises(ValueError, match="instead of"):
        Vectors(count=2, dimensions=3, float32="AAAA" * 4).rows()
