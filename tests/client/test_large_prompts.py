"""Prompts that are too large for Temporal: the client stores them once, only attempts fetch them."""

import asyncio
import base64
import dataclasses
import hashlib
import json
import os
import re
import time
import uuid
from datetime import timedelta

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import PayloadCodec
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import Replayer

from activities.attempt import ProviderAttempts
from durable_llm import (
    AllModelsExhaustedError,
    CallConflictError,
    Category,
    Dispatcher,
    DispatcherUnavailableError,
    InvalidRequestError,
    LLMConfig,
    ModelSpec,
)
from durable_llm.contract.content import ContentReference
from durable_llm.contract.facts import LocalFault, Sent
from durable_llm.contract.request import CallRequest
from durable_llm.store import Store, StoreRefusedError, StoreUnavailableError, open_store
from durable_llm.store.content import to_content
from tests.conftest import workflow_runner
from tests.support.attempts import environment, order, ring, says
from tests.support.cli import run
from tests.support.stores import Memory, asking
from tests.support.wire import playing
from workflows.llm_call import LLMCall
from workflows.policy.versions import CURRENT, VERSIONS

ANSWER = {
    "id": "x", "object": "chat.completion", "created": 1, "model": "m",
    "usage": {"prompt_tokens": 1, "completion_tokens": 1},
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "a cat"}, "finish_reason": "stop"}],
}  # fmt: skip
LARGE = "What is this? " + "x" * 600_000
AWAY = StoreUnavailableError("memory:/test: connection refused")


def model(url: str, **spec) -> ModelSpec:
    """A model behind `url`."""
    return ModelSpec(name="hosted_vllm/m", api_base=url, **spec)


def images(size: int) -> list[dict]:
    """A question about images of `size` bytes in all."""
    half = base64.b64encode(os.urandom(size // 2)).decode()
    parts = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{half}{end}"}} for end in ("AAAA", "BBBB")
    ]
    return [{"role": "user", "content": [{"type": "text", "text": "What are these?"}, *parts]}]


async def arguments(client: Client, call_id: str) -> list[Payload]:
    """What the call's workflow was started with."""
    async for event in client.get_workflow_handle(call_id).fetch_history_events():
        return list(event.workflow_execution_started_event_attributes.input.payloads)
    raise AssertionError


async def history_bytes(client: Client, call_id: str) -> int:
    """The history's size by the server's own figure."""
    described = await client.get_workflow_handle(call_id).describe()
    return described.raw_description.workflow_execution_info.history_size_bytes


# The whole way


async def test_twenty_megabytes_of_images_arrive_whole_and_the_history_stays_small(server_env, tmp_path):
    """One put, one request with every byte of the images, a history of a few KB, and a replay that fetches nothing."""
    messages = images(15_000_000)
    sent_bytes = len(json.dumps(messages))
    store = open_store((tmp_path / "prompts").as_uri())
    began = time.monotonic()
    async with (
        playing({"body": ANSWER}) as wire,
        asking(server_env.client, store, worker_store=store) as dispatcher,
    ):
        handle = await dispatcher.submit(model(wire.url), messages, call_id=f"cats-{uuid.uuid4()}")
        result = await handle.result()
    assert (result.text, len(result.attempts), len(wire.requests)) == ("a cat", 1, 1)
    assert sent_bytes > 20_000_000
    assert json.loads(wire.requests[0].partition(b"\r\n\r\n")[2])["messages"] == messages
    assert await history_bytes(server_env.client, handle.call_id) < 20_000
    assert len(list((tmp_path / "prompts").iterdir())) == 1
    assert time.monotonic() - began < 30

    request, prompt = await arguments(server_env.client, handle.call_id)
    reference = pydantic_data_converter.payload_converter.from_payload(prompt, ContentReference)
    assert (tmp_path / "prompts" / reference.sha256).stat().st_size == reference.size > 20_000_000
    assert json.loads(request.data)["schema_version"] == 2

    history: WorkflowHistory = await server_env.client.get_workflow_handle(handle.call_id).fetch_history()
    (tmp_path / "prompts" / reference.sha256).unlink()
    replayer = Replayer(workflows=[LLMCall], data_converter=pydantic_data_converter, workflow_runner=workflow_runner())
    await replayer.replay_workflow(history)


async def test_prompts_up_to_512_kib_do_not_touch_the_store(server_env):
    """They travel through Temporal, in requests that an older worker accepts."""
    driver = Memory()
    store = Store(driver)
    async with playing({"body": ANSWER}) as wire, asking(server_env.client, store, worker_store=store) as dispatcher:
        handle = await dispatcher.submit(model(wire.url), "x" * 500_000, call_id=f"small-{uuid.uuid4()}")
        assert (await handle.result()).text == "a cat"
    request, _ = await arguments(server_env.client, handle.call_id)
    assert json.loads(request.data)["schema_version"] == 1
    assert (driver.puts, driver.gets) == (0, 0)


async def test_without_a_store_the_largest_prompt_is_read_from_the_history(server_env):
    """1.9 MB go through Temporal and into the request."""
    async with playing({"body": ANSWER}) as wire, asking(server_env.client, None, worker_store=None) as dispatcher:
        result = await dispatcher.call(model(wire.url), "x" * 1_899_000)
    assert result.text == "a cat"
    assert len(wire.requests[0]) > 1_899_000


async def test_eight_attempts_at_500_kb_leave_a_history_of_little_more_than_the_prompt(server_env):
    """At most 1.2 times the prompt by the server's own figure, without a store: the prompt is there once."""
    prompt = "Name a prime. " * 36_000
    chain = [ModelSpec(name=f"hosted_vllm/m{number}") for number in range(8)]
    async with (
        playing({"http_status": 404, "body": {"error": {"message": "no such model"}}}) as wire,
        asking(server_env.client, None, worker_store=None) as dispatcher,
    ):
        config = LLMConfig(models=[spec.model_copy(update={"api_base": wire.url}) for spec in chain])
        handle = await dispatcher.submit(config, prompt, call_id=f"eight-{uuid.uuid4()}")
        with pytest.raises(AllModelsExhaustedError) as raised:
            await handle.result()
    assert len(raised.value.attempts) == len(wire.requests) == 8
    assert all(len(request) > len(prompt) > 500_000 for request in wire.requests)
    assert await history_bytes(server_env.client, handle.call_id) <= 1.2 * len(prompt)


async def test_the_command_line_sends_a_large_file(server_env, tmp_path):
    """`durable-llm call -f FILE` finds the store in its environment."""
    (tmp_path / "book.txt").write_text("x" * 3_000_000)
    url = (tmp_path / "prompts").as_uri()
    async with (
        playing({"body": ANSWER}) as wire,
        asking(server_env.client, None, worker_store=open_store(url)) as dispatcher,
    ):
        to = {
            "TEMPORAL_ADDRESS": server_env.client.service_client.config.target_host,
            "DURABLE_LLM_TASK_QUEUE": dispatcher.task_queue,
        }
        call = ("call", "-m", "hosted_vllm/m", "--api-base", wire.url, "-f", str(tmp_path / "book.txt"))
        refused, answered, unusable = await asyncio.gather(
            run(*call, **to), run(*call, **to, DURABLE_LLM_STORE=url), run(*call, **to, DURABLE_LLM_STORE="nowhere")
        )
    assert (refused.status, "set DURABLE_LLM_STORE" in refused.err) == (2, True)
    assert (answered.status, answered.out.strip()) == (0, "a cat")
    assert (unusable.status, "DURABLE_LLM_STORE: expected file:///DIRECTORY" in unusable.err) == (2, True)


class Mask(PayloadCodec):
    """Inverts each byte, which shows whether a codec was used."""

    async def encode(self, payloads):
        mask = bytes(255 - number for number in range(256))
        return [
            Payload(metadata={"encoding": b"test/mask"}, data=each.SerializeToString().translate(mask))
            for each in payloads
        ]

    async def decode(self, payloads):
        mask = bytes(255 - number for number in range(256))
        return [Payload.FromString(each.data.translate(mask)) for each in payloads]


async def test_a_codec_that_encrypts_the_history_encrypts_the_store(server_env):
    """The store holds the payload that the history would hold, unreadable without the client's codec."""
    config = server_env.client.config()
    config["data_converter"] = dataclasses.replace(pydantic_data_converter, payload_codec=Mask())
    driver = Memory()
    store = Store(driver)
    async with playing({"body": ANSWER}) as wire, asking(Client(**config), store, worker_store=store) as dispatcher:
        assert (await dispatcher.call(model(wire.url), LARGE)).text == "a cat"
    (content,) = driver.contents.values()
    assert b"What is this?" not in content
    assert b"What is this?" in wire.requests[0]


# At submit


@pytest.mark.parametrize(
    ("size", "store", "says"),
    [
        (2_000_000, None, "limit is 1,900,000; set DURABLE_LLM_STORE here and on the workers"),
        (51_000_000, None, "limit is 1,900,000; shorten it"),
        (51_000_000, Store(Memory()), "limit is 50,000,000; shorten it"),
    ],
)
async def test_what_is_too_large_is_refused_with_what_to_do(server_env, size, store, says):
    """It is refused before anything is sent, with and without a store."""
    with pytest.raises(InvalidRequestError, match=says):
        await Dispatcher(server_env.client, store=store).submit("openai/gpt-4o-mini", "x" * size)


async def test_a_submission_waits_for_its_store_as_long_as_the_caller_does(server_env):
    """The error names the store and its reason; once the store is back the same submission succeeds."""
    driver = Memory()
    driver.raising(AWAY)
    store = Store(driver)
    async with playing({"body": ANSWER}) as wire, asking(server_env.client, store, worker_store=store) as dispatcher:
        with pytest.raises(
            DispatcherUnavailableError, match=r"the store memory:/test: connection refused did not answer within 1 s"
        ):
            await dispatcher.submit(model(wire.url), LARGE, wait=timedelta(seconds=1))
        tried = driver.puts
        assert tried > 1
        submitting = asyncio.create_task(dispatcher.submit(model(wire.url), LARGE))
        while driver.puts < tried + 2:
            await asyncio.sleep(0.01)
        driver.mood = lambda: None
        assert (await (await submitting).result()).text == "a cat"


async def test_a_store_that_refuses_ends_the_submission_at_once(server_env):
    """Waiting does not help with wrong credentials."""
    driver = Memory()
    driver.raising(StoreRefusedError("memory:/test: 403 AccessDenied"))
    with pytest.raises(DispatcherUnavailableError, match="the prompt's store refuses: memory:/test: 403 AccessDenied"):
        await Dispatcher(server_env.client, store=Store(driver)).submit("openai/gpt-4o-mini", LARGE)
    assert driver.puts == 1


async def test_who_attaches_needs_no_store(server_env):
    """The same request under a taken id attaches, also while the store is away; another one is a conflict."""
    driver, call_id = Memory(), f"job-{uuid.uuid4()}"
    store = Store(driver)
    async with playing({"body": ANSWER}) as wire, asking(server_env.client, store, worker_store=store) as dispatcher:
        first = await dispatcher.call(model(wire.url), LARGE, call_id=call_id)
        driver.raising(AWAY)
        again = await dispatcher.call(model(wire.url), LARGE, call_id=call_id)
        with pytest.raises(CallConflictError, match="messages differ"):
            await dispatcher.submit(model(wire.url), f"{LARGE}!", call_id=call_id)
    assert (first, driver.puts, len(wire.requests)) == (again, 1, 1)


async def test_a_failed_call_that_is_run_again_puts_its_prompt_again(server_env):
    """A sweep may have deleted the prompt, so a rerun stores it again."""
    driver, call_id = Memory(), f"job-{uuid.uuid4()}"
    store = Store(driver)
    case = {"http_status": 400, "body": {"error": {"message": "no"}}}
    async with playing(case) as wire, asking(server_env.client, store, worker_store=store) as dispatcher:
        with pytest.raises(Exception, match="no model would take"):
            await dispatcher.call(model(wire.url), LARGE, call_id=call_id)
        driver.contents.clear()
        case.update(http_status=200, body=ANSWER)
        again = await dispatcher.call(model(wire.url), LARGE, call_id=call_id, if_failed="rerun")
    assert (again.text, driver.puts) == ("a cat", 2)


# On the worker


async def stored(driver: Memory, text: str = LARGE) -> ContentReference:
    """A reference to a prompt in the driver."""
    content = await to_content(pydantic_data_converter, says(text))
    return ContentReference(sha256=await Store(driver).put(content), size=len(content))


def on_worker(client: Client) -> ActivityEnvironment:
    """An activity environment with a client."""
    made = ActivityEnvironment(client=client)
    made.info = environment().info
    return made


async def attempt(env: ActivityEnvironment, url: str, store: Store | None, reference, timeout_s: float = 20.0):
    """The answer or the facts of an attempt at a stored prompt."""
    attempts = ProviderAttempts(ring(), store=store, heartbeat_interval=timedelta(milliseconds=20))
    try:
        return await env.run(attempts.provider_attempt, order("hosted_vllm/m", url, timeout_s=timeout_s), reference)
    except ApplicationError as error:
        return error.details[0]


async def test_an_attempt_waits_for_its_store_and_heartbeats(server_env):
    """A store that first hangs and fails only delays the attempt."""
    driver, hanging, beats = Memory(), [], []
    reference = await stored(driver)

    def slow():
        hanging.append(driver.gets)
        time.sleep(0.5)
        hanging.clear()
        if driver.gets < 3:
            raise AWAY

    driver.mood = slow
    env = on_worker(server_env.client)
    env.on_heartbeat = lambda *_: beats.extend(hanging)
    async with playing({"body": ANSWER}) as wire:
        answer = await attempt(env, wire.url, Store(driver), reference)
    assert (answer.choices[0].text, driver.gets) == ("a cat", 3)
    assert {1, 2, 3} == set(beats), "heartbeats while the store hangs"


async def test_a_store_that_stays_away_is_a_connection_that_failed(server_env):
    """After half of the attempt's time: nothing was sent or billed, and the same model is asked again."""
    driver = Memory()
    reference = await stored(driver)
    driver.raising(AWAY)
    async with playing({"body": ANSWER}) as wire:
        facts = await attempt(on_worker(server_env.client), wire.url, Store(driver), reference, timeout_s=2.0)
    assert (facts.local_fault, facts.request_sent, facts.billed) == (LocalFault.STORE_UNAVAILABLE, Sent.NO, 0.0)
    assert facts.text == "memory:/test: connection refused; tried for 1 s"
    assert 0.9 < facts.duration_s < 2.0
    assert not wire.requests
    assert VERSIONS[CURRENT].classify(facts).category == Category.CONNECTION


UNREADABLE = [
    ("no store", r"this worker has none; set DURABLE_LLM_STORE as clients do"),
    ("missing", r"does not hold [0-9a-f]{64}; check that DURABLE_LLM_STORE names the client's store"),
    ("exchanged", r"holds under [0-9a-f]{64} is something else; submit the call again"),
    ("another size", r"has another size; submit the call again"),
    ("refused", r"403 AccessDenied; check DURABLE_LLM_STORE of this worker"),
    ("no prompt", r"cannot be decoded \(ValidationError\); client and worker need the same data converter"),
    ("no hash", r"64 hexadecimal digits"),
]


@pytest.mark.parametrize(("what", "says_"), UNREADABLE, ids=[what for what, _ in UNREADABLE])
async def test_a_prompt_that_cannot_be_had_says_what_to_check(server_env, what, says_):
    """Nothing is sent, trying again would not help, and the text names the setting."""
    driver = Memory()
    reference = await stored(driver)
    match what:
        case "missing":
            driver.contents.clear()
        case "exchanged":
            driver.contents[reference.sha256] = b"something else"
        case "another size":
            reference = reference.model_copy(update={"size": 7})
        case "refused":
            driver.raising(StoreRefusedError("memory:/test: 403 AccessDenied"))
        case "no prompt":
            content = Payload(metadata={"encoding": b"json/plain"}, data=b'{"colour": "blue"}').SerializeToString()
            driver.contents = {(name := hashlib.sha256(content).hexdigest()): content}
            reference = ContentReference(sha256=name, size=len(content))
        case "no hash":
            reference = reference.model_copy(update={"sha256": "../../etc/passwd"})
    async with playing({"body": ANSWER}) as wire:
        facts = await attempt(
            on_worker(server_env.client), wire.url, None if what == "no store" else Store(driver), reference
        )
    assert (facts.local_fault, facts.request_sent) == (LocalFault.PROMPT_UNREADABLE, Sent.NO)
    assert re.search(says_, facts.text), facts.text
    assert not wire.requests


async def test_a_worker_without_the_store_ends_the_call_with_what_to_set(server_env):
    """The last error names the missing setting."""
    async with asking(server_env.client, Store(Memory()), worker_store=None) as dispatcher:
        with pytest.raises(AllModelsExhaustedError, match="set DURABLE_LLM_STORE") as raised:
            await dispatcher.call(model("http://127.0.0.1:9"), LARGE)
    assert [each.category for each in raised.value.attempts] == [Category.MISCONFIGURED]


def test_a_request_carries_the_oldest_version_that_will_do():
    """Older workers accept the requests that they can do."""
    assert CallRequest(models=[ModelSpec(name="openai/gpt-4o-mini")]).schema_version == 1
