"""The worker and the command line as processes: what they print, and the status they leave with."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from durable_llm import AllModelsExhaustedError, Category, Dispatcher, LLMConfig, ModelSpec
from tests.support_wire import playing

ROOT = Path(__file__).parents[1]
ANSWER = {
    "id": "x", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "7"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
}  # fmt: skip


async def start(*command: str, **env: str) -> Process:
    """Start a program of ours with a clean environment plus `env`."""
    plain = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV") if name in os.environ}
    return await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=ROOT, env={**plain, **env}, stdout=PIPE, stderr=PIPE
    )  # fmt: skip


async def outcome(process: Process) -> tuple[int, str]:
    """Exit status and everything that was printed."""
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode or 0, (out + err).decode()


@asynccontextmanager
async def worker(env: WorkflowEnvironment, task_queue: str, **settings: str) -> AsyncIterator[Process]:
    """A worker process that polls `task_queue`."""
    address = env.client.service_client.config.target_host
    process = await start(
        "-m", "workers", TEMPORAL_ADDRESS=address, DURABLE_LLM_TASK_QUEUE=task_queue,
        DURABLE_LLM_API_BASE_HOSTS="127.0.0.1", **settings,
    )  # fmt: skip
    try:
        async with asyncio.timeout(60):
            line = await process.stdout.readline()
        assert b"worker ready" in line, await outcome(process)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("DURABLE_LLM_HEARTBEAT_TIMEOUT_S", "soon", "DURABLE_LLM_HEARTBEAT_TIMEOUT_S: Input should be a valid number"),
        ("DURABLE_LLM_HEARTBEAT_INTERVAL_S", "50", "at most half of DURABLE_LLM_HEARTBEAT_TIMEOUT_S"),
        ("DURABLE_LLM_MAX_CONCURRENT_ATTEMPTS", "0", "DURABLE_LLM_MAX_CONCURRENT_ATTEMPTS"),
        ("DURABLE_LLM_KEYS", "nonsense", "DURABLE_LLM_KEYS"),
        ("DURABLE_LLM_KEYS", "TEMPORAL_API_KEY=openai", "DURABLE_LLM_KEYS"),
        ("DURABLE_LLM_API_BASE_HOSTS", "*", "DURABLE_LLM_API_BASE_HOSTS"),
        ("DURABLE_LLM_LOG_LEVEL", "LOUD", "DURABLE_LLM_LOG_LEVEL"),
        ("DURABLE_LLM_PLUGINS", "no_such_module", "DURABLE_LLM_PLUGINS"),
        ("DURABLE_LLM_VALIDATOR_TIMEOUT_S", "0", "DURABLE_LLM_VALIDATOR_TIMEOUT_S"),
    ],
)
async def test_an_unusable_setting_is_named_and_the_worker_does_not_start(name: str, value: str, says: str) -> None:
    """Settings are checked before anything is connected; status 2, one line, no traceback."""
    status, printed = await outcome(await start("-m", "workers", **{name: value}))
    assert status == 2
    assert says in printed
    assert "Traceback" not in printed


async def test_a_worker_without_a_server_says_where_it_looked() -> None:
    """No endless silence: the address is named, and the status is 3."""
    env = {"TEMPORAL_ADDRESS": "127.0.0.1:1", "DURABLE_LLM_CONNECT_WAIT_S": "1"}
    status, printed = await outcome(await start("-m", "workers", **env))
    assert status == 3
    assert "no Temporal server answered at 127.0.0.1:1" in printed


async def test_sigterm_drains_and_leaves_with_zero(server_env: WorkflowEnvironment) -> None:
    """An open attempt finishes within the grace, its answer arrives, and the exit status is 0."""
    case = {"http_status": 200, "headers": {"content-type": "application/json"}, "body": ANSWER,
            "fault": "slow_drip", "drip_s": 0.3, "drip_n": 5}  # fmt: skip
    async with (
        playing(case) as wire,
        worker(server_env, "drained", DURABLE_LLM_GRACEFUL_SHUTDOWN_S="20") as process,
        Dispatcher(server_env.client, task_queue="drained") as dispatcher,
    ):
        handle = await dispatcher.submit(ModelSpec(name="openai/gpt-4o-mini", api_base=wire.url), "Name a prime.")
        while not wire.requests:
            await asyncio.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        status, printed = await outcome(process)
        async with worker(server_env, "drained"):
            result = await handle.result()
    assert status == 0, printed
    assert result.text == "7"
    assert result.attempts_total == 1
    assert len(wire.requests) == 1


async def test_a_killed_worker_is_an_unknown_attempt_and_the_next_one_answers(server_env: WorkflowEnvironment) -> None:
    """SIGKILL in mid-attempt: noticed by its heartbeats, in the ledger as unknown, and the call is answered."""
    hang, serve = {"http_status": 0, "fault": "timeout", "headers": {}, "body": None}, {
        "http_status": 200, "headers": {"content-type": "application/json"}, "body": ANSWER,
    }  # fmt: skip
    beats = {"DURABLE_LLM_HEARTBEAT_TIMEOUT_S": "2", "DURABLE_LLM_HEARTBEAT_INTERVAL_S": "0.5"}
    async with playing(hang) as hanging, playing(serve) as serving:
        chain = LLMConfig(models=[
            ModelSpec(name="openai/gpt-4o-mini", api_base=hanging.url, timeout=6, max_retries=0),
            ModelSpec(name="openai/gpt-4o", api_base=serving.url),
        ])  # fmt: skip
        async with Dispatcher(server_env.client, task_queue="killed") as dispatcher:
            async with worker(server_env, "killed", **beats) as process:
                handle = await dispatcher.submit(chain, "Name a prime.")
                while not hanging.requests:
                    await asyncio.sleep(0.02)
                process.kill()
                await process.wait()
            async with worker(server_env, "killed", **beats):
                result = await handle.result()
    first = result.attempts[0]
    assert (first.category, first.outcome, first.cost) == (Category.WORKER_LOST, "unknown", None)
    assert result.text == "7"
    assert not result.cost_complete


async def test_a_key_that_the_worker_does_not_have_is_said_and_nothing_is_sent(server_env: WorkflowEnvironment) -> None:
    """A missing variable is named at once by the worker; the provider is not asked."""
    async with worker(server_env, "keyless"), Dispatcher(server_env.client, task_queue="keyless") as dispatcher:
        for spec, says in (
            (ModelSpec(name="openai/gpt-4o-mini"), "OPENAI_API_KEY"),
            (ModelSpec(name="openai/gpt-4o-mini", api_key="os.environ/OPENAI_API_KEY"), "OPENAI_API_KEY"),
            (ModelSpec(name="openai/gpt-4o-mini", api_base="https://example.com/v1"), "DURABLE_LLM_API_BASE_HOSTS"),
            (ModelSpec(name="nonesuch/model"), "nonesuch"),
        ):
            with pytest.raises(AllModelsExhaustedError, match=says) as caught:
                await dispatcher.call(spec, "Name a prime.")
            [entry] = caught.value.attempts
            assert (entry.category, entry.cost) == (Category.MISCONFIGURED, 0.0)


async def test_setup_registers_search_attributes_and_may_be_repeated(tmp_path: Path) -> None:
    """`durable-llm setup` makes a bare namespace ready; a second run finds nothing to do."""
    from tests.conftest import binary

    env = await WorkflowEnvironment.start_local(dev_server_existing_path=binary("temporal"))
    async with env:
        address = env.client.service_client.config.target_host
        program = ("-c", "from durable_llm.cli import main; main()", "setup")
        status, printed = await outcome(await start(*program, TEMPORAL_ADDRESS=address))
        assert (status, "registered LLMModel" in printed) == (0, True), printed
        status, printed = await outcome(await start(*program, TEMPORAL_ADDRESS=address))
        assert (status, "all search attributes were there" in printed) == (0, True), printed
    status, printed = await outcome(await start(*program, "--connect-wait", "1s", TEMPORAL_ADDRESS="127.0.0.1:1"))
    assert (status, "no Temporal server answered" in printed) == (3, True)
