"""The attempt under a real worker: what it takes from the Temporal server and how its end looks there."""

import asyncio
import time
import uuid
from datetime import timedelta
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.attempt import ProviderAttempts
from activities.temporal.server import FRESH_S, TemporalServer
from durable_llm.contract.facts import FailureFacts, LocalFault
from durable_llm.contract.names import ATTEMPT_ACTIVITY, ATTEMPT_FAILED
from durable_llm.contract.request import AttemptOrder, Prompt
from durable_llm.contract.result import Answer
from tests.support.attempts import environment, order, ring, says
from tests.support.encryption import client_with
from tests.support.wire import playing

ANSWER = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "usage": {"prompt_tokens": 1, "completion_tokens": 1},
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
}


@workflow.defn(name="OneAttempt", sandboxed=False)
class OneAttempt:
    """Makes one attempt without giving it the prompt."""

    @workflow.run
    async def run(self, asked: AttemptOrder, _prompt: Any) -> Answer:
        """Return the attempt's answer."""
        return await workflow.execute_activity(
            ATTEMPT_ACTIVITY,
            args=[asked, None],
            result_type=Answer,
            start_to_close_timeout=timedelta(seconds=30),
            heartbeat_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(maximum_attempts=1),
        )


async def run(client: Client, asked: AttemptOrder, prompt: Prompt, **workers: Client) -> Answer:
    """The outcome of a workflow that makes one attempt; `decides` and `attempts` are other clients for its workers."""
    queue = str(uuid.uuid4())
    attempts, decides = workers.get("attempts", client), workers.get("decides", client)
    activities = [ProviderAttempts(ring()).provider_attempt]
    async with (
        Worker(attempts, task_queue=queue, activities=activities),
        Worker(decides, task_queue=queue, workflows=[OneAttempt], workflow_runner=UnsandboxedWorkflowRunner()),
    ):
        return await client.execute_workflow(
            "OneAttempt", args=[asked, prompt], id=queue, task_queue=queue, result_type=Answer
        )


async def test_a_large_prompt_is_read_from_history(server_env):
    """An attempt without an inline prompt sends the one that its workflow was started with."""
    async with playing({"body": ANSWER}) as wire:
        answer = await run(server_env.client, order("hosted_vllm/m", wire.url), says("told once: " + "x" * 100_000))

    assert answer.choices[0].text == "hi"
    assert b"told once: xxx" in wire.requests[0]


async def test_an_encrypted_prompt_is_read_from_history(server_env):
    """What is sent to the provider is the prompt, with whichever key the caller encrypted it."""
    caller, worker = await client_with(server_env, "a", "b"), await client_with(server_env, "b", "a")
    async with playing({"body": ANSWER}) as wire:
        await run(caller, order("hosted_vllm/m", wire.url), says("told once"), decides=worker, attempts=worker)

    assert b"told once" in wire.requests[0]


async def test_a_prompt_whose_key_the_worker_lacks_is_said_and_nothing_is_sent(server_env):
    """The order was readable, the prompt is not: a fact of its own that names the key."""
    both, newer = await client_with(server_env, "b", "a"), await client_with(server_env, "b")
    caller = await client_with(server_env, "a", "b")
    async with playing({"body": ANSWER}) as wire:
        with pytest.raises(WorkflowFailureError) as raised:
            await run(caller, order("hosted_vllm/m", wire.url), says(), decides=both, attempts=newer)

    facts = FailureFacts.model_validate(raised.value.cause.cause.details[0])
    assert (facts.local_fault, facts.request_sent, wire.requests) == (LocalFault.UNDECIPHERED, "no", [])
    assert "'a', which this process does not have" in facts.text


async def test_facts_cross_the_server(server_env):
    """A failed attempt is one ApplicationError that carries decodable facts and no cause."""
    async with playing(
        {"http_status": 429, "headers": {"retry-after": "3"}, "body": {"error": {"message": "slow"}}}
    ) as wire:
        with pytest.raises(WorkflowFailureError) as raised:
            await run(server_env.client, order("hosted_vllm/m", wire.url), says())

    error = raised.value.cause.cause
    assert isinstance(error, ApplicationError)
    assert (error.type, error.non_retryable, error.cause) == (ATTEMPT_FAILED, True, None)
    assert FailureFacts.model_validate(error.details[0]).retry_after_s == 3.0
    assert error.message == "429 RateLimitError: slow"


class CountingClient:
    """A client whose server answers every health check, and counts them."""

    def __init__(self) -> None:
        self.service_client = self
        self.checks = 0

    async def check_health(self, **_: object) -> bool:
        self.checks += 1
        await asyncio.sleep(0.01)
        return True


async def test_the_server_is_asked_only_if_it_has_not_answered_for_a_second() -> None:
    """Attempts that end at the same time share one request; a short one asks nothing."""
    client, server = CountingClient(), TemporalServer()
    env = environment(client)

    async def ends(began_s_ago: float) -> None:
        await env.run(server.reachable, time.monotonic() - began_s_ago)

    await ends(0.5)
    assert client.checks == 0
    await asyncio.gather(*(ends(30.0) for _ in range(50)))
    assert client.checks == 1
    await ends(30.0)
    assert client.checks == 1
    await asyncio.sleep(FRESH_S)
    await ends(30.0)
    assert client.checks == 2
