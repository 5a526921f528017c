"""What a call asks of the Temporal server."""

from collections import Counter
from datetime import timedelta

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.runtime import MetricBuffer, Runtime, TelemetryConfig
from temporalio.testing import WorkflowEnvironment

from durable_llm import Dispatcher
from tests.conftest import stage
from tests.support.scripted import answer


async def test_a_call_takes_two_requests(server_env: WorkflowEnvironment) -> None:
    """A caller starts a workflow and waits for its end, as with Temporal alone, and asks nothing else."""
    metrics = MetricBuffer(10_000)
    client = await Client.connect(
        server_env.client.service_client.config.target_host,
        data_converter=pydantic_data_converter,
        runtime=Runtime(telemetry=TelemetryConfig(metrics=metrics)),
    )
    patient = timedelta(hours=1)
    async with (
        stage(server_env.client, answer()) as served,
        Dispatcher(client, task_queue=served.task_queue, warn_without_workers=patient) as dispatcher,
    ):
        metrics.retrieve_updates()
        await dispatcher.call("openai/gpt-4o-mini", "Name a prime.")
    requests = Counter(
        update.attributes["operation"]
        for update in metrics.retrieve_updates()
        if update.metric.name in ("temporal_request", "temporal_long_request")
    )
    assert set(requests) == {"StartWorkflowExecution", "GetWorkflowExecutionHistory"}
    assert requests["StartWorkflowExecution"] == 1
