"""A worker over HTTP: alive, ready, and every metric that the page names, scraped from a real process."""

import asyncio
import json
import re
import signal
import urllib.error
import urllib.request
import uuid
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from activities.recent import LATELY_S, Recent
from durable_llm import Dispatcher, LLMConfig, ModelSpec, Policy
from durable_llm.contract.facts import FailureFacts, LocalFault, Sent
from tests.support.processes import SERVES, outcome, start_worker, worker
from tests.support.scripted import answer
from tests.support.wire import playing
from workers.dev.ports import free_port
from workers.health import Health
from workers.telemetry.names import METRICS

MODEL = "openai/gpt-4o-mini"
FAILS = {"http_status": 503, "headers": {}, "body": {"error": {"message": "overloaded", "code": "overloaded"}}}


async def get(port: str, path: str) -> tuple[int, str]:
    """Status and body."""

    def fetch() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}") as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    return await asyncio.to_thread(fetch)


async def scraped(port: str, *names: str) -> str:
    """The metrics, once those of these names have been counted."""
    while True:
        _, text = await get(port, "metrics")
        if all(f"\n{name}{{" in text for name in names):
            return text
        await asyncio.sleep(0.1)


def prometheus_name(metric: Any) -> str:
    """Prometheus's name of a series of a metric, by the rules of OpenTelemetry's exporter."""
    unit = "_seconds" if metric.unit == "s" else ""
    ending = {"histogram": "_bucket", "counter": "_total", "gauge": ""}[metric.kind]
    return metric.name.replace(".", "_") + unit + ending


async def test_a_worker_that_answers_is_alive_and_ready_and_its_metrics_are_scraped(
    server_env: WorkflowEnvironment,
) -> None:
    """Each metric of the page is there after a call, those of Temporal's SDK beside them."""
    queue, port = f"health-{uuid.uuid4().hex[:8]}", str(free_port())
    async with playing(SERVES) as wire, worker(server_env, queue, DURABLE_LLM_HTTP_PORT=port):
        async with Dispatcher(server_env.client, task_queue=queue) as dispatcher:
            await dispatcher.call(ModelSpec(name=MODEL, api_base=wire.url), "Hi.")
        alive, (ready, why) = await get(port, "livez"), await get(port, "readyz")
        ours = [prometheus_name(metric) for metric in METRICS]
        text = await scraped(port, *ours, "temporal_workflow_task_execution_latency_seconds_bucket")
    assert alive[0] == 200
    assert json.loads(alive[1])["providers"] == {"openai": {"answered": 1, "failed": 0, "last_failure": None}}
    assert (ready, json.loads(why)) == (200, {"status": "ready", "problems": []})
    [calls] = re.findall(r'^durable_llm_calls_total\{.*durable_llm_outcome="answered".*\} (\S+)', text, re.MULTILINE)
    assert float(calls) == 1.0


async def test_a_dead_provider_leaves_the_worker_alive_and_ready(server_env: WorkflowEnvironment) -> None:
    """What the provider answered stands beside it, without the provider's text."""
    queue, port = f"health-{uuid.uuid4().hex[:8]}", str(free_port())
    async with (
        playing(FAILS) as wire, worker(server_env, queue, DURABLE_LLM_HTTP_PORT=port),
        Dispatcher(server_env.client, task_queue=queue) as dispatcher,
    ):  # fmt: skip
        chain = LLMConfig(models=[ModelSpec(name=MODEL, api_base=wire.url, max_retries=0)])
        handle = await dispatcher.submit(chain, "Hi.", policy=Policy(patience=None))
        while not (status := await handle.status()).attempts or not status.waits:
            await asyncio.sleep(0.05)
        alive, ready = await get(port, "livez"), await get(port, "readyz")
        await handle.cancel()
    assert (alive[0], ready[0]) == (200, 200)
    openai = json.loads(alive[1])["providers"]["openai"]
    assert (openai["answered"], openai["failed"], openai["last_failure"]) == (0, 1, "503 overloaded")


async def test_a_worker_without_a_key_is_not_ready(server_env: WorkflowEnvironment) -> None:
    """It is alive, and says which reference leads to no key; in time, as a mounted file may come later."""
    queue, port = f"health-{uuid.uuid4().hex[:8]}", str(free_port())
    settings = {"DURABLE_LLM_HTTP_PORT": port, "DURABLE_LLM_KEYS": "TEAM_KEY=openai, secrets/team=anthropic"}
    async with worker(server_env, queue, TEAM_KEY="team-value-1234", DURABLE_LLM_SECRETS_DIR="/nonesuch", **settings):
        alive, ready = await get(port, "livez"), await get(port, "readyz")
    assert alive[0] == 200
    assert ready[0] == 503
    assert "the key secrets/team is not there" in json.loads(ready[1])["problems"]
    assert "TEAM_KEY" not in ready[1]


async def test_what_temporal_does_not_see_is_not_ready(server_env: WorkflowEnvironment) -> None:
    """A queue that this worker does not poll, a worker that drains, and a server that refuses."""
    health = Health(server_env.client, "nobody-polls-this", missing_keys=list, providers=dict, draining=True)
    assert await health.problems() == [
        "it is draining", "Temporal has not seen it poll 'nobody-polls-this' since its start",
    ]  # fmt: skip
    away = Client(server_env.client.service_client, namespace="nonesuch")
    [problem] = await Health(away, "q", missing_keys=list, providers=dict).problems()
    assert problem.startswith("Temporal cannot be asked: ")


async def test_a_port_in_use_is_named_and_a_signal_still_drains(server_env: WorkflowEnvironment) -> None:
    """2 and the variable; the HTTP server leaves SIGTERM to the worker."""
    queue, port = f"health-{uuid.uuid4().hex[:8]}", str(free_port())
    async with worker(server_env, queue, DURABLE_LLM_HTTP_PORT=port) as first:
        status, text = await outcome(await start_worker(server_env, queue, DURABLE_LLM_HTTP_PORT=port))
        assert status == 2
        assert "DURABLE_LLM_HTTP_PORT: cannot listen on 127.0.0.1 port" in text
        first.send_signal(signal.SIGTERM)
        assert (await outcome(first))[0] == 0


async def test_without_a_port_nothing_listens(server_env: WorkflowEnvironment) -> None:
    """No setting, no server."""
    queue = f"health-{uuid.uuid4().hex[:8]}"
    async with worker(server_env, queue, DURABLE_LLM_HTTP_PORT="") as process:
        process.send_signal(signal.SIGTERM)
        status, text = await outcome(process)
    assert status == 0
    assert "its health is at" not in text


def test_only_what_was_sent_lately_says_something_about_a_provider() -> None:
    """A missing key is no provider's failure, and what is older than five minutes is forgotten."""
    now = 0.0
    recent = Recent(clock=lambda: now)
    recent.add("openai/a", answer())
    recent.add("openai/b", FailureFacts(local_fault=LocalFault.MISSING_KEY, text="no key", request_sent=Sent.NO))
    now = LATELY_S / 2
    recent.add("anthropic/c", FailureFacts(http_status=529, text="secret words", request_sent=Sent.YES))
    failed = {"answered": 0, "failed": 1, "last_failure": "529 failed"}
    assert recent.by_provider() == {
        "openai": {"answered": 1, "failed": 0, "last_failure": None}, "anthropic": failed,
    }  # fmt: skip
    now = LATELY_S + 1
    assert recent.by_provider() == {"anthropic": failed}


@pytest.mark.parametrize("value", ["-1", "70000", "nine"])
async def test_a_port_that_is_none_is_refused(value: str, server_env: WorkflowEnvironment) -> None:
    """2, and the variable."""
    status, text = await outcome(await start_worker(server_env, "q", DURABLE_LLM_HTTP_PORT=value))
    assert status == 2
    assert "DURABLE_LLM_HTTP_PORT" in text
