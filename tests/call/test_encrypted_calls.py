"""Calls with encryption against a real server: everything works, and the server holds no plain text."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.query.v1 import WorkflowQuery
from temporalio.api.workflowservice.v1 import QueryWorkflowRequest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.attempt import ProviderAttempts
from durable_llm import AllModelsExhaustedError, CallConflictError, DecryptionError, Dispatcher, LLMConfig, ModelSpec
from durable_llm.cli.exits import Exit
from durable_llm.contract import search_attributes
from durable_llm.store import Store
from tests.conftest import stage
from tests.support.attempts import ring
from tests.support.cli import MODEL, at, run
from tests.support.encryption import client_with, key, keys
from tests.support.scripted import ScriptedProvider, answer, fresh_id, http_error, never
from tests.support.stores import Memory
from tests.support.wire import playing
from workers.recorded.histories import from_server
from workers.recorded.reclassify import reclassify
from workflows.llm_call import LLMCall

PROMPT, ANSWER, ERROR, LABEL = "prOmpt-canary", "anSwer-canary", "erRor-canary", "laBel-canary"
CANARIES = (PROMPT, ANSWER, ERROR, LABEL)
AT_ONCE = timedelta(seconds=0)
CHAIN = LLMConfig(models=[ModelSpec(name=MODEL, max_retries=0), ModelSpec(name="openai/gpt-4o", max_retries=0)])
FAILED = http_error(401, "invalid_api_key", f"no such key, said {ERROR}")
SOUND = {
    "id": "x", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}  # fmt: skip
RETRIED = http_error(503, "overloaded", f"busy with {ERROR}")


@pytest.fixture(scope="module")
async def client(server_env: WorkflowEnvironment) -> AsyncIterator[Client]:
    """A client with two keys; what it writes is encrypted with the newer one."""
    return await client_with(server_env, "2026-11", "2026-05")


async def stored(client: Client, call_id: str) -> bytes:
    """Everything that the server holds about a call, as bytes: its history and its description."""
    handle = client.get_workflow_handle(call_id)
    described = (await handle.describe()).raw_description.SerializeToString()
    listed = [each.raw_info.SerializeToString() async for each in client.list_workflows(f"WorkflowId = '{call_id}'")]
    events = [event.SerializeToString() async for event in handle.fetch_history_events()]
    return b"".join([described, *listed, *events])


async def test_nothing_is_stored_in_clear_and_search_attributes_are(client: Client) -> None:
    """Prompt, answer, provider's error text and labels: in no byte of history, memo, summary, description and list."""
    async with stage(client, FAILED, answer(ANSWER)) as ready:
        handle = await ready.dispatcher.submit(
            CHAIN, PROMPT, call_id=fresh_id(), session="readable", metadata={"for": LABEL}
        )
        result = await handle.result()
        raw = await stored(client, handle.call_id)
    assert result.text == ANSWER
    assert ERROR in result.attempts[0].message
    assert not [canary for canary in CANARIES if canary.encode() in raw]
    description = await client.get_workflow_handle(handle.call_id).describe()
    shown = description.typed_search_attributes
    assert (shown[search_attributes.OUTCOME], shown[search_attributes.ATTEMPTS]) == ("answered", 2)
    assert (shown[search_attributes.MODEL], shown[search_attributes.SESSION]) == ("openai/gpt-4o", "readable")
    assert (await description.memo())["metadata"] == {"for": LABEL}
    assert PROMPT not in await description.static_summary()


async def test_a_failed_call_tells_its_callers_and_nobody_else(client: Client) -> None:
    """The typed error has the provider's words; the history does not."""
    async with stage(client, FAILED) as ready:
        handle = await ready.dispatcher.submit(CHAIN, PROMPT, call_id=fresh_id())
        with pytest.raises(AllModelsExhaustedError, match=ERROR) as caught:
            await handle.result()
        raw = await stored(client, handle.call_id)
    assert ERROR in caught.value.last_error
    assert [ERROR in entry.message for entry in caught.value.attempts] == [True, True]
    assert not [canary for canary in CANARIES if canary.encode() in raw]
    assert caught.value.attempts == await handle.attempts()


async def test_the_ledger_is_read_from_the_history_without_a_worker(client: Client) -> None:
    """`attempts` decrypts failures, waits and their reasons."""
    async with stage(client, RETRIED, never, graceful_shutdown_timeout=AT_ONCE) as ready:
        handle = await ready.dispatcher.submit(MODEL, PROMPT, call_id=fresh_id())
        while len(ready.provider.orders) < 2:
            await asyncio.sleep(0.05)
    async with Dispatcher(client) as dispatcher:
        first, second, *_ = await dispatcher.attach(handle.call_id).attempts()
        status = await dispatcher.attach(handle.call_id).status()
        await client.get_workflow_handle(handle.call_id).terminate()
    assert (first.http_status, first.error_code) == (503, "overloaded")
    assert ERROR in first.message
    assert first.delay_reason == "overloaded: backoff"
    assert (second.outcome, status.attempts) == ("unknown", 2)
    assert second.message == "drained: the worker was shut down during the attempt"


async def test_the_same_request_attaches_after_a_rotation(server_env: WorkflowEnvironment) -> None:
    """The fingerprint in the memo is encrypted; a client that encrypts with another key can still compare it."""
    before, after = await client_with(server_env, "a"), await client_with(server_env, "b", "a")
    call_id = fresh_id()
    async with stage(before, answer(ANSWER)) as ready:
        await ready.dispatcher.call(MODEL, PROMPT, call_id=call_id)
    async with Dispatcher(after, task_queue=ready.task_queue) as dispatcher:
        attached = await dispatcher.submit(MODEL, PROMPT, call_id=call_id)
        with pytest.raises(CallConflictError) as caught:
            await dispatcher.submit(MODEL, "another prompt", call_id=call_id)
        assert (await attached.result()).text == ANSWER
    assert caught.value.differing == ("messages",)


async def test_encryption_is_switched_on_and_rotated_while_a_call_runs(server_env: WorkflowEnvironment) -> None:
    """A call that began in plain text continues with workers that encrypt, also with another key."""
    clear, first, second = [await client_with(server_env, *ids) for ids in ((), ("a",), ("b", "a"))]
    call_id = fresh_id()
    async with stage(clear, RETRIED, never, graceful_shutdown_timeout=AT_ONCE) as begun:
        await begun.dispatcher.submit(MODEL, PROMPT, call_id=call_id)
        while len(begun.provider.orders) < 2:
            await asyncio.sleep(0.05)
    async with stage(
        first, RETRIED, never, task_queue=begun.task_queue, heartbeat_timeout_s=60, graceful_shutdown_timeout=AT_ONCE
    ) as switched:
        while len(switched.provider.orders) < 2:
            await asyncio.sleep(0.05)
    async with stage(second, answer(ANSWER), task_queue=begun.task_queue) as rotated:
        result = await rotated.dispatcher.attach(call_id).result()
    assert result.text == ANSWER
    assert [entry.category for entry in result.attempts].count("overloaded") == 2


async def test_the_command_line_reads_with_keys_and_says_what_is_missing_without(client: Client) -> None:
    """`show` and `result` decrypt; without the key the status is 3 and the text names key and variable, not a traceback."""
    async with stage(client, FAILED) as ready:
        handle = await ready.dispatcher.submit(CHAIN, PROMPT, call_id=fresh_id())
        with pytest.raises(AllModelsExhaustedError):
            await handle.result()
        ours = {**at(ready), **keys("2026-11")}
        shown, listed, blind, broken = await asyncio.gather(
            run("show", handle.call_id, **ours),
            run("list", "--outcome", "exhausted", "--json", **at(ready)),
            run("result", handle.call_id, "--json", **at(ready)),
            run("show", handle.call_id, **at(ready), DURABLE_LLM_ENCRYPTION_KEYS=key("x")),
        )
    assert (shown.status, ERROR in shown.out) == (Exit.OK, True), shown
    assert (listed.status, handle.call_id in listed.out) == (Exit.OK, True)
    assert (blind.status, blind.json["error"]["type"]) == (Exit.UNAVAILABLE, "DecryptionError")
    assert "'2026-11'" in blind.json["error"]["message"]
    assert "DURABLE_LLM_ENCRYPTION_KEYS" in blind.json["error"]["message"]
    assert (broken.status, "DURABLE_LLM_ENCRYPTION_KEYS: entry 1 is not a pair" in broken.err) == (Exit.USAGE, True)
    assert key("x") not in broken.out + broken.err


async def test_recorded_calls_are_classified_again(client: Client) -> None:
    """`reclassify` reads encrypted histories, facts and texts."""
    async with stage(client, FAILED) as ready:
        handle = await ready.dispatcher.submit(CHAIN, PROMPT, call_id=fresh_id())
        with pytest.raises(AllModelsExhaustedError):
            await handle.result()
        report = await reclassify(from_server(client, f"WorkflowId = '{handle.call_id}'", 1), client.data_converter)
    assert (report.calls, report.attempts, report.differences, report.unreadable) == (1, 2, [], [])


async def test_the_uis_page_of_a_running_call_is_encrypted(client: Client) -> None:
    """The ledger under "current details" is the answer of a query, which passes the codec too."""
    async with stage(client, RETRIED, never) as ready:
        handle = await ready.dispatcher.submit(MODEL, PROMPT, call_id=fresh_id())
        while len(ready.provider.orders) < 2:
            await asyncio.sleep(0.05)
        asked = QueryWorkflowRequest(
            namespace=client.namespace,
            execution=WorkflowExecution(workflow_id=handle.call_id),
            query=WorkflowQuery(query_type="__temporal_workflow_metadata"),
        )
        told = await client.workflow_service.query_workflow(asked)
        await handle.cancel()
    assert ERROR.encode() not in told.SerializeToString()
    [plain] = await client.data_converter.payload_codec.decode(told.query_result.payloads)
    assert ERROR in json.loads(plain.data)["currentDetails"]


# Who lacks the key


async def test_a_client_without_the_key_is_told_which(client: Client, server_env: WorkflowEnvironment) -> None:
    """Result, ledger, status and attaching name the key and the call, before and after its end."""
    stranger = await client_with(server_env, "other")
    async with (
        stage(client, answer(ANSWER), never) as ready,
        Dispatcher(stranger, task_queue=ready.task_queue) as dispatcher,
    ):
        ended, running = fresh_id(), fresh_id()
        await ready.dispatcher.call(MODEL, PROMPT, call_id=ended)
        await ready.dispatcher.submit(MODEL, PROMPT, call_id=running)
        while len(ready.provider.orders) < 2:
            await asyncio.sleep(0.05)
        for call_id in (ended, running):
            handle = dispatcher.attach(call_id)
            asking = [handle.attempts(), handle.status(), dispatcher.submit(MODEL, PROMPT, call_id=call_id)]
            for asked in [*asking, handle.result()] if call_id == ended else asking:
                with pytest.raises(DecryptionError, match="'2026-11', which this process does not have") as caught:
                    await asked
                assert "it has 'other'" in caught.value.message
                assert caught.value.call_id == call_id
        await ready.dispatcher.attach(running).cancel()


async def test_a_worker_without_the_key_stops_nothing_for_good(
    client: Client, server_env: WorkflowEnvironment, caplog: pytest.LogCaptureFixture
) -> None:
    """It fails the task, not the call; the log says why the call waits; a worker with the key continues."""
    stranger = await client_with(server_env, "other")
    async with stage(stranger, answer("never asked")) as keyless:
        async with Dispatcher(
            client, task_queue=keyless.task_queue, warn_without_workers=timedelta(seconds=1)
        ) as dispatcher:
            handle = await dispatcher.submit(MODEL, PROMPT, call_id=fresh_id())
            with caplog.at_level(logging.WARNING, "durable_llm"):
                result = asyncio.create_task(handle.result())
                async with asyncio.timeout(30):
                    while "workers fail its task" not in caplog.text:
                        await asyncio.sleep(0.1)
            status = await handle.status()
            result.cancel()
        assert not keyless.provider.orders
    assert "which this process does not have" in caplog.text
    assert "workers fail its task: " in status.activity
    assert (status.outcome, status.workers) == ("running", True)
    async with stage(client, answer(ANSWER), task_queue=keyless.task_queue) as ready:
        assert (await ready.dispatcher.attach(handle.call_id).result(timedelta(seconds=60))).text == ANSWER


async def test_a_stuck_call_beside_a_healthy_one_is_told_of(
    client: Client, server_env: WorkflowEnvironment, caplog: pytest.LogCaptureFixture
) -> None:
    """Each call's own task counts, whichever call of the queue is checked first, and each is logged once."""
    stranger = await client_with(server_env, "other")
    async with stage(client, never) as ready, Dispatcher(stranger, task_queue=ready.task_queue) as keyless:
        stuck = [(await keyless.submit(MODEL, PROMPT, call_id=fresh_id())).call_id for _ in range(2)]
        healthy = (await ready.dispatcher.submit(MODEL, PROMPT, call_id=fresh_id())).call_id
        async with Dispatcher(
            client, task_queue=ready.task_queue, warn_without_workers=timedelta(seconds=1)
        ) as dispatcher:
            with caplog.at_level(logging.WARNING, "durable_llm"):
                waiting = [asyncio.create_task(dispatcher.attach(each).result()) for each in (healthy, *stuck)]
                async with asyncio.timeout(30):
                    while not all(each in caplog.text for each in stuck):
                        await asyncio.sleep(0.1)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        await ready.dispatcher.attach(healthy).cancel()
    told = [record.getMessage() for record in caplog.records if "workers fail its task" in record.getMessage()]
    assert sorted(message.split("'")[1] for message in told) == sorted(stuck)


async def test_an_attempt_that_meets_a_worker_without_the_key_is_made_again(
    client: Client, server_env: WorkflowEnvironment
) -> None:
    """Nothing was sent or billed; the attempt is repeated for another worker, outside the retries."""
    task_queue, provider = f"mixed-{fresh_id()}", ScriptedProvider([answer(ANSWER)])
    stranger = await client_with(server_env, "other", "2026-05")
    able = await client_with(server_env, "2026-11", "2026-05", "other")
    decides = Worker(able, task_queue=task_queue, workflows=[LLMCall], workflow_runner=UnsandboxedWorkflowRunner())
    async with decides, Dispatcher(client, task_queue=task_queue) as dispatcher:
        async with Worker(stranger, task_queue=task_queue, activities=[provider.provider_attempt]):
            handle = await dispatcher.submit(ModelSpec(name=MODEL, max_retries=0), PROMPT, call_id=fresh_id())
            reader = Dispatcher(able)
            while not (entries := await reader.attach(handle.call_id).attempts()) or entries[0].category is None:
                await asyncio.sleep(0.05)
        async with Worker(able, task_queue=task_queue, activities=[provider.provider_attempt]):
            result = await handle.result()
    first, last = result.attempts[0], result.attempts[-1]
    assert (first.category, first.outcome, first.cost) == ("worker_lost", "failed", 0.0)
    assert first.rule == "undeciphered"
    assert "'2026-11', which this process does not have" in first.message
    assert "nothing was sent" in first.delay_reason
    assert (last.outcome, len(provider.orders)) == ("answered", 1)


async def test_a_stored_prompt_that_a_worker_cannot_decrypt_is_read_by_another(
    client: Client, server_env: WorkflowEnvironment
) -> None:
    """If only the store's content is unreadable, nothing is sent until a worker with the key comes."""
    task_queue, store = f"stored-{fresh_id()}", Store(Memory())
    stranger = await client_with(server_env, "2026-05")
    decides = await client_with(server_env, "2026-05", "2026-11")  # its orders are readable to both
    deciding = Worker(decides, task_queue=task_queue, workflows=[LLMCall], workflow_runner=UnsandboxedWorkflowRunner())

    def attempting(worker: Client) -> Worker:
        attempts = ProviderAttempts(ring(), store=store, heartbeat_interval=timedelta(seconds=1))
        return Worker(worker, task_queue=task_queue, activities=[attempts.provider_attempt])

    async with (
        playing({"body": SOUND}) as wire,
        deciding,
        Dispatcher(client, task_queue=task_queue, store=store) as ask,
    ):
        spec = ModelSpec(name="hosted_vllm/m", api_base=wire.url, max_retries=0)
        async with attempting(stranger):
            handle = await ask.submit(spec, PROMPT + "x" * 600_000, call_id=fresh_id())
            while not (entries := await handle.attempts()) or entries[0].category is None:
                await asyncio.sleep(0.05)
        assert not wire.requests
        async with attempting(client):
            result = await handle.result(timedelta(seconds=60))
    assert "'2026-11', which this process does not have" in result.attempts[0].message
    assert (result.attempts[0].rule, result.text, len(wire.requests)) == ("undeciphered", ANSWER, 1)
