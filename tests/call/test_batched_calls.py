"""Calls that are asked in a provider's batch: pooled, judged and paid as any call, at half the price."""

import asyncio
import re
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import TimeoutError as TemporalTimeoutError
from temporalio.exceptions import TimeoutType
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Replayer

from durable_llm import AllModelsExhaustedError, Category, InvalidRequestError, LLMConfig, ModelSpec, Outcome, Policy
from durable_llm.contract.attempt_failure import facts_of_activity_failure
from durable_llm.contract.request import AttemptOrder
from tests.conftest import workflow_runner
from tests.harness.parts.provider import Provider, journal
from tests.support.batch_server import BatchServer
from tests.support.calls import completion
from tests.support.provider_batches import RECORDED
from tests.support.scripted import fresh_id
from tests.support.workers import working
from workflows.batches import LLMBatchCollector, LLMProviderBatch
from workflows.policy.batch import LEAST_S, LIVE_RESERVE_S, batch_time

WINDOW = {"batch_window": timedelta(seconds=2)}
SOON = Policy(patience=timedelta(0), backoff_initial=timedelta(milliseconds=1), backoff_cap=timedelta(milliseconds=1))


def spec(api_base: str, name: str = "openai/gpt-4o-mini", **fields: Any) -> ModelSpec:
    """A model that is asked in batches."""
    return ModelSpec(name=name, api_base=api_base, batch=True, **fields)


def repeats(body: dict) -> tuple[int, dict]:
    """A line that is answered with its prompt."""
    return 200, completion(f"You said {body['messages'][-1]['content']}.")


@pytest.mark.parametrize(
    ("family", "model"), [("openai", "openai/gpt-4o-mini"), ("anthropic", "anthropic/claude-haiku-4-5")]
)
async def test_calls_are_pooled_into_one_batch(server_env: WorkflowEnvironment, family: str, model: str) -> None:
    """Of OpenAI and of Anthropic. Each call has its own answer, usage and half of the price."""
    async with (
        Provider(family) as provider,
        working(server_env.client, **WINDOW) as dispatcher,
    ):
        await provider.ready()
        base = provider.api_base
        live = await dispatcher.call(ModelSpec(name=model, api_base=base, extra_params={"max_tokens": 50}), "Hi 0.")
        asked = spec(base, model, extra_params={"max_tokens": 50})
        results = await asyncio.gather(*(dispatcher.call(asked, f"Hi {number}.") for number in range(5)))
        sent = [f"{each['method']} {each['path']}" for each in await journal(provider.root)]
    for result in results:
        assert result.text
        assert result.usage is not None
        [entry] = result.attempts
        assert entry.http_status == 200
        assert entry.duration_s is not None
        assert entry.duration_s > 1
    assert live.cost is not None
    assert results[0].usage == live.usage
    assert results[0].cost == pytest.approx(live.cost / 2)
    batches = [each for each in sent if each.startswith("POST") and each.endswith("/batches")]
    assert 1 <= len(batches) < 5, sent


async def test_each_line_has_its_own_end(server_env: WorkflowEnvironment) -> None:
    """A rejected line rejects its call, a failed one is sent again alone, one that is missing is asked again."""
    seen: list[str] = []

    def line(body: dict) -> tuple[int, dict] | None:
        prompt = body["messages"][-1]["content"]
        seen.append(prompt)
        if prompt == "bad":
            return 400, {"error": {"message": "no", "type": "invalid_request_error", "code": "invalid_value"}}
        if prompt == "overloaded" and seen.count(prompt) == 1:
            return 503, {"error": {"message": "busy", "type": "server_error"}}
        return None if prompt == "missing" and seen.count(prompt) == 1 else repeats(body)

    server = BatchServer(line)
    async with server.running() as base, working(server_env.client, **WINDOW) as dispatcher:
        prompts = ("good", "bad", "overloaded", "missing")
        ended = await asyncio.gather(
            *(dispatcher.call(spec(base), prompt, policy=Policy(**{**SOON.model_dump(), "patience": 60})) for prompt in prompts),
            return_exceptions=True,
        )  # fmt: skip
    good, bad, overloaded, missing = ended
    assert good.text == "You said good."
    assert type(bad).__name__ == "RequestRejectedError"
    assert [entry.http_status for entry in overloaded.attempts] == [503, 200]
    assert [entry.category for entry in missing.attempts] == [Category.TIMEOUT, None]
    assert missing.attempts[0].message.endswith("the provider's batch has ended without this line")
    sent = Counter(each["body"]["messages"][0]["content"] for batch in server.batches for each in batch)
    assert sent == {"good": 1, "bad": 1, "overloaded": 2, "missing": 2}
    assert not server.live


async def test_a_refused_batch_goes_on_down_the_chain(server_env: WorkflowEnvironment) -> None:
    """Each of its calls decides by itself, as if its own request had been refused."""
    server = BatchServer(repeats)
    server.refuses = (401, {"error": {"message": "no such key", "type": "invalid_request_error"}})
    async with server.running() as base, working(server_env.client, **WINDOW) as dispatcher:
        chain = LLMConfig(models=[spec(base), ModelSpec(name="openai/gpt-4o", api_base=base)])
        results = await asyncio.gather(*(dispatcher.call(chain, f"{number}") for number in range(2)))
    for result in results:
        assert result.text == "live"
        assert [(entry.http_status, entry.category) for entry in result.attempts] == [(401, Category.AUTH), (200, None)]
    assert len(server.live) == 2


async def test_what_no_batch_could_hold_is_refused_at_once(server_env: WorkflowEnvironment) -> None:
    """By the attempt, before anything is sent; the next model is asked."""
    server = BatchServer(repeats)
    async with server.running() as base, working(server_env.client, **WINDOW) as dispatcher:
        for first in (spec(base, "mistral/mistral-small"), spec("http://not-listed.test/v1")):
            chain = LLMConfig(models=[first, ModelSpec(name="openai/gpt-4o", api_base=base)])
            result = await dispatcher.call(chain, "Hi.")
            assert result.text == "live"
            assert result.attempts[0].cost == 0.0
    assert not server.batches


@pytest.mark.parametrize(
    "fields",
    [
        {"responses_api": True}, {"first_token_timeout": 5}, {"token_timeout": 5}, {"extra_params": {"stream": True}},
        {"extra_params": {"extra_headers": {"x-a": "b"}}},
    ],
)  # fmt: skip
def test_a_spec_that_no_line_can_have_is_refused(fields: dict) -> None:
    """It says what to leave out."""
    with pytest.raises(ValidationError, match=r"batch: .*leave"):
        ModelSpec(name="openai/gpt-4o", batch=True, **fields)


@pytest.mark.parametrize(
    ("remaining_s", "try_number", "waited"),
    [
        (86_400, 1, 86_400 - LIVE_RESERVE_S), (LEAST_S + LIVE_RESERVE_S, 1, LEAST_S),
        (LEAST_S + LIVE_RESERVE_S - 1, 1, None), (60, 1, None), (86_400, 2, 86_400 - LIVE_RESERVE_S), (86_400, 3, None),
    ],
)  # fmt: skip
def test_the_deadline_decides_between_batch_and_live(remaining_s: float, try_number: int, waited: float | None) -> None:
    """The last hour is for live requests, and a line needs two at least; the third try is live."""
    assert batch_time(remaining_s, try_number=try_number) == waited


async def test_a_near_deadline_asks_live(server_env: WorkflowEnvironment) -> None:
    """A batch would come too late."""
    server = BatchServer(repeats)
    async with server.running() as base, working(server_env.client, **WINDOW) as dispatcher:
        result = await dispatcher.call(spec(base), "Hi.", deadline=timedelta(hours=2))
    assert result.text == "live"
    assert not server.batches


def test_a_line_that_did_not_come_in_time_may_have_been_paid() -> None:
    """The attempt ends before the deadline, with an unknown outcome, and the next one asks live."""
    order = AttemptOrder(
        number=1, spec=spec("http://127.0.0.1/v1"), spec_index=0, try_number=1, timeout_s=7200, batch=True
    )
    timeout = TemporalTimeoutError("it never ended", type=TimeoutType.START_TO_CLOSE, last_heartbeat_details=[])
    facts = facts_of_activity_failure(timeout, order)
    assert (facts.outcome, facts.billed) == (Outcome.UNKNOWN, None)
    assert facts.text == "the provider's batch has not ended within 7200 s"


async def test_a_cancelled_call_leaves_its_line(server_env: WorkflowEnvironment) -> None:
    """The others of its batch are answered."""
    server = BatchServer(repeats)
    server.ended.clear()
    async with server.running() as base, working(server_env.client, **WINDOW) as dispatcher:
        one, other = [await dispatcher.submit(spec(base), prompt) for prompt in ("one", "other")]
        while not server.batches:
            await asyncio.sleep(0.05)
        await one.cancel()
        while (await one.status()).outcome == "running":
            await asyncio.sleep(0.05)
        server.ended.set()
        assert (await other.result()).text == "You said other."
    assert (await one.status()).outcome == "cancelled"


async def test_a_batch_that_cannot_be_sent_is_told_to_its_calls(server_env: WorkflowEnvironment) -> None:
    """Nobody listens: nothing was sent, so nothing was paid."""
    async with working(server_env.client, **WINDOW) as dispatcher:
        with pytest.raises(AllModelsExhaustedError) as failed:
            await dispatcher.call(spec("http://127.0.0.1:1/v1", max_retries=0), "Hi.", policy=SOON)
    [entry] = failed.value.attempts
    assert (entry.category, entry.cost) == (Category.CONNECTION, 0.0)
    assert "could not be sent" in (entry.message or "")


@pytest.mark.proof  # megabytes of lines
async def test_lines_that_are_too_large_for_one_batch_are_in_several(server_env: WorkflowEnvironment) -> None:
    """Together a batch's lines fit one payload of Temporal's."""
    server = BatchServer(repeats)
    large = {"extra_body": {"note": "x" * 14_000}}
    async with server.running() as base, working(server_env.client, **WINDOW) as dispatcher:
        asked = spec(base, extra_params=large)
        results = await asyncio.gather(*(dispatcher.call(asked, f"{number}") for number in range(80)))
    assert [result.text for result in results] == [f"You said {number}." for number in range(80)]
    assert sum(map(len, server.batches)) == 80
    assert len(server.batches) >= 2


async def test_texts_are_not_embedded_in_a_batch(server_env: WorkflowEnvironment) -> None:
    """Refused before anything is sent."""
    async with working(server_env.client) as dispatcher:
        with pytest.raises(InvalidRequestError, match="leave it out to embed"):
            await dispatcher.embed(spec("http://127.0.0.1:1/v1"), ["text"])


@pytest.mark.workflow
@pytest.mark.parametrize("kind", RECORDED)
async def test_a_recorded_batch_replays(kind: str) -> None:
    """An upgrade leaves no batch behind."""
    replayer = Replayer(
        workflows=[LLMBatchCollector, LLMProviderBatch], data_converter=pydantic_data_converter,
        workflow_runner=workflow_runner(),
    )  # fmt: skip
    recorded = RECORDED[kind].read_text()
    child = re.search(r'"workflowId": ?"(batches/[^"]+)/[0-9a-f-]{36}"', recorded)  # its id begins with its parent's
    await replayer.replay_workflow(WorkflowHistory.from_json(child[1] if child else kind, recorded))


async def test_a_batch_outlives_its_worker(server_env: WorkflowEnvironment) -> None:
    """Another worker gives the answer, and nothing is sent again."""
    server, queue = BatchServer(repeats), fresh_id()
    server.ended.clear()
    async with server.running() as base:
        async with working(server_env.client, queue, **WINDOW) as dispatcher:
            handle = await dispatcher.submit(spec(base), "Hi.")
            while not server.polled:
                await asyncio.sleep(0.05)
        server.ended.set()
        async with working(server_env.client, queue, **WINDOW) as dispatcher:
            result = await dispatcher.attach(handle.call_id).result()
    assert result.text == "You said Hi.."
    assert result.attempts_total == len(server.batches) == 1
