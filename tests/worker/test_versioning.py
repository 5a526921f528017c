"""Versioned workers: who gets a call, and what the log says when nobody does."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from temporalio.api.enums.v1 import RoutingConfigUpdateState
from temporalio.api.workflowservice.v1 import DescribeWorkerDeploymentRequest, SetWorkerDeploymentCurrentVersionRequest
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from durable_llm import Dispatcher, ModelSpec
from durable_llm.contract.request import AttemptOrder
from tests.support.scripted import ScriptedProvider, Step, answer, http_error
from workers.settings import SettingsError, WorkerSettings, load_settings
from workers.versioning import log_current_version
from workers.worker import build_worker

SPREAD = RoutingConfigUpdateState.ROUTING_CONFIG_UPDATE_STATE_COMPLETED
MODEL = ModelSpec(name="openai/gpt-4o-mini", max_retries=1)


@pytest.fixture
def deployment() -> str:
    """A name of its own, for the deployment and its task queue."""
    return f"calls-{uuid.uuid4()}"


def settings(deployment: str, build: str, versioning: str = "auto-upgrade") -> WorkerSettings:
    """A worker's settings; a poll of an old version ends soon enough for a test."""
    return WorkerSettings(
        task_queue=deployment, deployment_name=deployment, build_id=build, versioning=versioning, graceful_shutdown_s=0
    )


@asynccontextmanager
async def versioned(client: Client, chosen: WorkerSettings, *steps: Step) -> AsyncIterator[ScriptedProvider]:
    """A worker of this version over a scripted provider."""
    provider = ScriptedProvider(steps)
    async with build_worker(client, chosen, provider):
        yield provider


async def set_current(client: Client, deployment: str, build: str) -> None:
    """What the operator's command does, once the server has seen the version poll."""
    request = SetWorkerDeploymentCurrentVersionRequest(
        namespace=client.namespace, deployment_name=deployment, build_id=build, identity="the operator"
    )

    async def accepted() -> bool:
        with suppress(RPCError):
            await client.workflow_service.set_worker_deployment_current_version(request)
            return True
        return False

    async def spread() -> bool:
        asked = DescribeWorkerDeploymentRequest(namespace=client.namespace, deployment_name=deployment)
        told = await client.workflow_service.describe_worker_deployment(asked)
        return told.worker_deployment_info.routing_config_update_state == SPREAD

    await until(accepted)
    await until(spread)  # task queues learn of it a moment later


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Poll until it holds."""
    async with asyncio.timeout(100):
        while not await condition():
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(("versioning", "asked_by_old", "asked_by_new"), [("pinned", 2, 1), ("auto-upgrade", 1, 2)])
async def test_a_running_call_ends_where_its_versioning_says(
    server_env: WorkflowEnvironment, deployment: str, versioning: str, asked_by_old: int, asked_by_new: int
) -> None:
    """New calls go to the current version; one that runs stays where it began when pinned, else it moves there."""
    client, upgraded = server_env.client, asyncio.Event()

    async def fails_after_the_upgrade(_: AttemptOrder) -> Step:
        await upgraded.wait()
        return http_error(503)

    async with (
        Dispatcher(client, task_queue=deployment) as dispatcher,
        versioned(client, settings(deployment, "v1", versioning), fails_after_the_upgrade, answer("old")) as old,
    ):
        await set_current(client, deployment, "v1")
        running = await dispatcher.submit(MODEL, "Name a prime.")
        await until(lambda: asyncio.sleep(0, bool(old.orders)))
        async with versioned(client, settings(deployment, "v2", versioning), answer("new")) as new:
            await set_current(client, deployment, "v2")
            fresh = await dispatcher.call(MODEL, "Name a prime.")
            upgraded.set()
            finished = await running.result()
    assert fresh.text == "new"
    assert finished.text == ("old" if versioning == "pinned" else "new")
    assert (len(old.orders), len(new.orders)) == (asked_by_old, asked_by_new)


async def test_a_worker_says_why_it_gets_no_calls(
    server_env: WorkflowEnvironment, deployment: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Until a version is current nobody gets a call, and another current version gets them all: each is said."""
    client, first, second = server_env.client, settings(deployment, "v1"), settings(deployment, "v2")
    caplog.set_level("INFO", "durable_llm.worker")

    async def said_by(worker: WorkerSettings) -> str:
        caplog.clear()
        await log_current_version(client, worker)
        return caplog.text

    command = f"temporal worker deployment set-current-version --deployment-name {deployment} --build-id"
    assert "has no current version" in await said_by(first)
    assert f"{command} v1" in caplog.text
    async with versioned(client, first, answer()):
        await set_current(client, deployment, "v1")
        assert await said_by(first) == ""
        assert "new calls go to build 'v1'" in await said_by(second)
        assert f"{command} v2" in caplog.text


async def test_a_worker_without_a_version_asks_nothing_and_is_not_versioned(
    server_env: WorkflowEnvironment, deployment: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The default: every worker on the queue takes every call."""
    chosen = WorkerSettings(task_queue=deployment)
    await log_current_version(server_env.client, chosen)
    assert not caplog.records
    async with (
        versioned(server_env.client, chosen, answer("7")),
        Dispatcher(server_env.client, task_queue=deployment) as d,
    ):
        assert (await d.call(MODEL, "Name a prime.")).text == "7"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"DEPLOYMENT_NAME": "calls"}, "DURABLE_LLM_BUILD_ID: expected beside DURABLE_LLM_DEPLOYMENT_NAME"),
        ({"BUILD_ID": "v1"}, "DURABLE_LLM_DEPLOYMENT_NAME: expected beside DURABLE_LLM_BUILD_ID"),
        ({"DEPLOYMENT_NAME": "a.b", "BUILD_ID": "v1"}, "DURABLE_LLM_DEPLOYMENT_NAME: String should match"),
        ({"VERSIONING": "sometimes"}, "DURABLE_LLM_VERSIONING: Input should be 'auto-upgrade' or 'pinned'"),
    ],
)
def test_half_a_version_is_refused(monkeypatch: pytest.MonkeyPatch, given: dict[str, str], says: str) -> None:
    """A version that Temporal would refuse, or that is only half set, stops the worker at its start."""
    for name, value in given.items():
        monkeypatch.setenv(f"DURABLE_LLM_{name}", value)
    with pytest.raises(SettingsError, match=says):
        load_settings()
