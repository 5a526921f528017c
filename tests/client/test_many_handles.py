"""Many results awaited in one process, in a namespace that serves few long polls."""

import asyncio
import statistics
import time
import uuid
from collections.abc import AsyncIterator

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from durable_llm import CallTerminatedError, Dispatcher
from tests.conftest import SetStage, stage
from tests.support.scripted import answer, never
from workers.dev.server import DevServer, ServerOptions

MODEL = "openai/gpt-4o-mini"
HANDLES = 80
SERVED = 50
"""Long polls that the namespace serves at once: the workers' own twenty or so, and few results."""


@pytest.fixture(scope="module")
async def frugal() -> AsyncIterator[Client]:
    """A client of a server that serves few long polls."""
    async with DevServer(ServerOptions(port=0, ui_port=None, data=None, long_polls=SERVED)) as server:
        yield await Client.connect(server.address, data_converter=pydantic_data_converter)


async def seconds_of_a_call(fresh: Dispatcher, awaiting: Dispatcher) -> float:
    """How long a new call takes while the others are awaited."""
    began = time.perf_counter()
    handle = await fresh.submit(MODEL, "Name a prime.")
    await awaiting.attach(handle.call_id).result()
    return time.perf_counter() - began


@pytest.mark.alone  # it times calls beside them
async def test_more_results_are_awaited_than_a_namespace_serves_polls(frugal: Client) -> None:
    """All results arrive, and a new call takes about as long as it would alone."""
    queue = f"later-{uuid.uuid4()}"
    async with (
        stage(frugal, answer("now")) as now,
        Dispatcher(frugal, task_queue=queue, max_long_polls=20) as dispatcher,
    ):
        alone = [await seconds_of_a_call(now.dispatcher, dispatcher) for _ in range(5)]
        handles = await asyncio.gather(*(dispatcher.submit(MODEL, "Name a prime.") for _ in range(HANDLES)))
        waiting = [asyncio.create_task(handle.result()) for handle in handles]
        beside = [await seconds_of_a_call(now.dispatcher, dispatcher) for _ in range(5)]
        assert not any(task.done() for task in waiting)
        assert statistics.median(beside) < 3 * statistics.median(alone) + 0.5
        async with stage(frugal, answer("later"), task_queue=queue):
            async with asyncio.timeout(60):
                results = await asyncio.gather(*waiting)
    assert {result.text for result in results} == {"later"}


async def test_a_reset_goes_on_and_an_end_by_force_does_not(on_server: SetStage) -> None:
    """A caller keeps waiting for the run that an operator's reset starts."""
    async with on_server(never, answer("after the reset"), never) as stage:
        handle = await stage.dispatcher.submit(MODEL, "Name a prime.")
        waiting = asyncio.create_task(handle.result())
        while not stage.provider.orders:
            await asyncio.sleep(0.02)
        await stage.client.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=stage.client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=handle.call_id),
                workflow_task_finish_event_id=4,
                reason="try again",
                request_id=str(uuid.uuid4()),
            )
        )
        assert (await waiting).text == "after the reset"
        ended = await stage.dispatcher.submit(MODEL, "Name a prime.")
        await stage.client.get_workflow_handle(ended.call_id).terminate(reason="enough")
        with pytest.raises(CallTerminatedError, match="enough"):
            await ended.result()
