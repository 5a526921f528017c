"""Servers that tests share: the time-skipping one for calls that wait, the embedded one for all else."""

import gc
import os
import shutil
import sysconfig
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from durable_llm import Dispatcher
from durable_llm.contract import search_attributes
from tests.support.scripted import ScriptedProvider, Step
from workers.plugin import HeartbeatTimeout
from workflows.llm_call import LLMCall

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

PROOFS = ("adapters", "examples", "system")
"""Folders whose tests run whole programs, as users do. `make proofs` runs them."""

ALONE = (
    "test_demo", "test_drain", "test_outage", "test_readme_walk", "test_resilience", "test_rows_survive_answers",
    "test_server_loss", "test_upgrade", "test_worker_loss",
)  # fmt: skip
"""Modules that want the machine for themselves: `make proofs` runs them one after the other, after the rest."""

PROOF_S = 600
"""Seconds that each proof has at least: a busy machine may need minutes for one. A longer limit of its own stays."""

LONGEST = ("test_canary", "test_chaos", "test_packaging", "test_batched_calls")
"""Modules that take their time: begun last, one of them would keep the whole run waiting."""


def binary(name: str) -> str:
    """Path of a program beside this Python, or on PATH."""
    beside = Path(sysconfig.get_path("scripts")) / name
    found = str(beside) if beside.exists() else shutil.which(name)
    assert found, f"{name} is not installed; run 'make install'"
    return found


async def started(start: Callable[[], Awaitable[WorkflowEnvironment]]) -> WorkflowEnvironment:
    """A server, asked for again where a busy machine needs more than the five seconds that the SDK gives it."""
    for _ in range(4):
        with suppress(RuntimeError):
            return await start()
    return await start()


@pytest.fixture(scope="session")
async def skipping_env() -> AsyncIterator[WorkflowEnvironment]:
    """A real server whose clock jumps over timers."""
    env = await started(
        lambda: WorkflowEnvironment.start_time_skipping(
            test_server_existing_path=binary("temporal-test-server"), data_converter=pydantic_data_converter
        )
    )
    async with env:
        await search_attributes.register(env.client)
        yield env


@pytest.fixture(scope="session")
async def server_env() -> AsyncIterator[WorkflowEnvironment]:
    """The embedded server, in real time."""
    env = await started(
        lambda: WorkflowEnvironment.start_local(
            dev_server_existing_path=binary("temporal"),
            data_converter=pydantic_data_converter,
            search_attributes=search_attributes.ALL,
            dev_server_extra_args=[
                argument
                for queue in ("transfer", "timer", "visibility")
                for argument in ("--dynamic-config-value", f"history.{queue}ProcessorMaxPollRPS=2000")
            ]
            + [
                argument
                for value in ("numTaskqueueReadPartitions=1", "numTaskqueueWritePartitions=1", "enableFairness=true")
                for argument in ("--dynamic-config-value", f"matching.{value}")
            ],
        )
    )
    async with env:
        yield env


def workflow_runner() -> WorkflowRunner:
    """Sandboxed where DURABLE_LLM_TEST_SANDBOX says so; the default is what workers do."""
    if os.environ.get("DURABLE_LLM_TEST_SANDBOX"):
        return SandboxedWorkflowRunner(
            restrictions=SandboxRestrictions.default.with_passthrough_modules("durable_llm", "litellm")
        )
    return UnsandboxedWorkflowRunner()


class Stage:
    """A dispatcher, and the scripted provider behind a worker on a queue of its own."""

    def __init__(self, dispatcher: Dispatcher, provider: ScriptedProvider, client: Client, task_queue: str) -> None:
        self.dispatcher = dispatcher
        self.provider = provider
        self.client = client
        self.task_queue = task_queue


@asynccontextmanager
async def stage(
    client: Client, *steps: Step, heartbeat_timeout_s: float = 60.0, task_queue: str | None = None, **worker: Any
) -> AsyncIterator[Stage]:
    """Run a worker whose provider plays `steps`."""
    task_queue = task_queue or f"test-{uuid.uuid4()}"
    provider = ScriptedProvider(steps)
    options: dict[str, Any] = {
        "workflow_runner": workflow_runner(),
        "max_cached_workflows": int(os.environ.get("DURABLE_LLM_TEST_CACHE", "100")),
        **worker,
    }
    running = Worker(
        client,
        task_queue=task_queue,
        workflows=[LLMCall],
        activities=[provider.provider_attempt],
        interceptors=[HeartbeatTimeout(timedelta(seconds=heartbeat_timeout_s))],
        **options,
    )
    dispatcher = Dispatcher(client, task_queue=task_queue)
    async with running, dispatcher:
        yield Stage(dispatcher, provider, client, task_queue)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest modules first, and mark each test that sets a stage: `make test` runs the marked ones twice."""
    first = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: first.get(item.path.stem, len(first)))
    for item in items:
        if item.path.stem in ALONE:
            item.add_marker(pytest.mark.alone)
        if item.path.parent.name in PROOFS or item.get_closest_marker("alone"):
            item.add_marker(pytest.mark.proof)
        limit = item.get_closest_marker("timeout")
        if item.get_closest_marker("proof") and (limit is None or limit.args[0] < PROOF_S):
            item.add_marker(pytest.mark.timeout(PROOF_S), append=False)
        if {"on_skipped_time", "on_server"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.workflow)


def pytest_collection_finish() -> None:
    """Spare the collector what was imported: looking through all of it takes so long that Temporal sees a deadlock."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show why a test was tried again: the plugin that does it keeps that to itself."""
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"tried again: {report.nodeid}")
        report.toterminal(terminalreporter._tw)  # pytest's own way to print a report


SetStage = Callable[..., AbstractAsyncContextManager[Stage]]


@pytest.fixture
def on_skipped_time(skipping_env: WorkflowEnvironment) -> SetStage:
    """Set a stage on the server that skips time; steps are the provider's."""

    @asynccontextmanager
    async def set_stage(*steps: Step, **options: Any) -> AsyncIterator[Stage]:
        async with stage(skipping_env.client, *steps, **options) as ready, skipping_env.time_skipping_unlocked():
            yield ready

    return set_stage


@pytest.fixture
def on_server(server_env: WorkflowEnvironment) -> SetStage:
    """Set a stage on the embedded server in real time."""
    return lambda *steps, **options: stage(server_env.client, *steps, **options)
