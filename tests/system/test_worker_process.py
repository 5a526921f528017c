"""The worker and the command line as processes: what they print, and the status they leave with."""

import asyncio
import os
import re
import signal
import time
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from durable_llm import AllModelsExhaustedError, Category, Dispatcher, ModelSpec
from tests.support.processes import SERVES, outcome, start, worker
from tests.support.wire import playing
from workers.plugin import build_attempts
from workers.settings import SettingsError, load_settings


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("DURABLE_LLM_HEARTBEAT_TIMEOUT_S", "soon", "DURABLE_LLM_HEARTBEAT_TIMEOUT_S: Input should be a valid number"),
        ("DURABLE_LLM_MAX_CONCURRENT_ATTEMPTS", "0", "DURABLE_LLM_MAX_CONCURRENT_ATTEMPTS"),
        ("DURABLE_LLM_KEYS", "nonsense", "DURABLE_LLM_KEYS"),
        ("DURABLE_LLM_KEYS", "TEMPORAL_API_KEY=openai", "DURABLE_LLM_KEYS"),
        ("DURABLE_LLM_API_BASE_HOSTS", "*", "DURABLE_LLM_API_BASE_HOSTS"),
        ("DURABLE_LLM_STORE", "redis://localhost", "DURABLE_LLM_STORE: expected file:///DIRECTORY"),
        ("DURABLE_LLM_PRICES", "/nonesuch", "DURABLE_LLM_PRICES: cannot read /nonesuch"),
        ("DURABLE_LLM_LOG_LEVEL", "LOUD", "DURABLE_LLM_LOG_LEVEL"),
        ("DURABLE_LLM_ENCRYPTION_KEYS", "a=c2hvcnQ=", "DURABLE_LLM_ENCRYPTION_KEYS: entry 1 has 5 bytes and needs 32"),
        ("DURABLE_LLM_ENCRYPTION_KEYS_FILE", "/nonesuch", "DURABLE_LLM_ENCRYPTION_KEYS_FILE: cannot read /nonesuch"),
        ("DURABLE_LLM_PLUGINS", "no_such_module", "DURABLE_LLM_PLUGINS"),
        ("DURABLE_LLM_VALIDATOR_TIMEOUT_S", "0", "DURABLE_LLM_VALIDATOR_TIMEOUT_S"),
    ],
)
def test_an_unusable_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str) -> None:
    """Settings are checked before anything is connected, each by itself."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=re.escape(says)):
        build_attempts(load_settings(), os.environ)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[1]", "expected a table of models"), ("{", "is not YAML"), ("a/b: {input: -1}", "greater than or equal to 0"),
        ("a/b: {output: 1}", "input: Field required"), ("a/b: {input: 1, outptu: 2}", "outptu: Extra inputs"),
    ],
)  # fmt: skip
def test_wrong_prices_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str, says: str) -> None:
    """A price that cannot be used stops the worker at its start."""
    (tmp_path / "prices.yaml").write_text(content)
    monkeypatch.setenv("DURABLE_LLM_PRICES", str(tmp_path / "prices.yaml"))
    with pytest.raises(SettingsError, match=f"DURABLE_LLM_PRICES: .*{says}"):
        build_attempts(load_settings(), os.environ)


async def test_a_worker_does_not_start_with_an_unusable_setting() -> None:
    """Status 2, a line that names it, no traceback; whether it is one value or what the value leads to."""
    for name, value in (("DURABLE_LLM_HEARTBEAT_TIMEOUT_S", "soon"), ("DURABLE_LLM_PLUGINS", "no_such_module")):
        status, printed = await outcome(await start("-m", "workers", **{name: value}))
        assert status == 2
        assert name in printed
        assert "Traceback" not in printed


async def test_a_worker_without_a_server_says_where_it_looked() -> None:
    """No endless silence: the address is named, and the status is 3."""
    env = {"TEMPORAL_ADDRESS": "127.0.0.1:1", "DURABLE_LLM_CONNECT_WAIT_S": "1"}
    status, printed = await outcome(await start("-m", "workers", **env))
    assert status == 3
    assert "no Temporal server answered at 127.0.0.1:1" in printed


@pytest.mark.parametrize("chains", ["", "quotas: {mini: {models: ['openai/*'], requests_per_minute: 60000}}"])
async def test_sigterm_drains_and_leaves_with_zero(
    server_env: WorkflowEnvironment, tmp_path: Path, chains: str
) -> None:
    """An open attempt finishes within the grace, its answer arrives, and the exit status is 0; by a quota too."""
    (tmp_path / "chains.yaml").write_text(chains)
    named = {"DURABLE_LLM_CHAINS": str(tmp_path / "chains.yaml")}
    queue = f"drained-{bool(chains)}"
    case = {**SERVES, "fault": "slow_drip", "drip_s": 0.3, "drip_n": 5}
    async with (
        playing(case) as wire,
        worker(server_env, queue, DURABLE_LLM_GRACEFUL_SHUTDOWN_S="20", **named) as process,
        Dispatcher(server_env.client, task_queue=queue) as dispatcher,
    ):
        handle = await dispatcher.submit(ModelSpec(name="openai/gpt-4o-mini", api_base=wire.url), "Name a prime.")
        while not wire.requests:
            await asyncio.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        status, printed = await outcome(process)
        async with worker(server_env, queue, **named):
            result = await handle.result()
    assert status == 0, printed
    assert result.text == "7"
    assert (result.attempts_total, result.attempts[0].quota) == (1, "mini" if chains else None)
    assert len(wire.requests) == 1


async def test_attempts_and_status_answer_beside_a_hanging_worker(server_env: WorkflowEnvironment) -> None:
    """A worker that polls and does not answer keeps nobody waiting: within two seconds the history tells."""
    async with (
        playing({"fault": "timeout"}) as wire,
        worker(server_env, "hanging") as process,
        Dispatcher(server_env.client, task_queue="hanging") as dispatcher,
    ):
        handle = await dispatcher.submit(ModelSpec(name="openai/gpt-4o-mini", api_base=wire.url), "Name a prime.")
        await wire.asked.wait()
        process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        [entry] = await handle.attempts()
        status = await handle.status()
        assert time.monotonic() - began < 4
        await handle.cancel()
    assert (entry.number, entry.outcome) == (1, None)
    assert (status.outcome, status.attempts, status.activity) == ("running", 1, "waiting: no worker answers")


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
