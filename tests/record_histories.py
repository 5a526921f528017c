"""Record the histories that tests replay: `python -m tests.record_histories [NAME ...]`.

Run it when a policy version is added, and commit the new files beside the old ones: an old history that no longer replays
is a running call that an upgrade would break.
"""

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from durable_llm import DurableLLMError, LLMConfig, ModelSpec, Policy, search_attributes
from durable_llm.facts import FailureFacts, LocalFault, Sent
from durable_llm.handle import CallHandle
from tests.conftest import Stage, binary, stage
from tests.scripted import Step, answer, http_error, never
from workflows.policy.versions import CURRENT

FOLDER = Path(__file__).parent / "histories"
PAIR = LLMConfig(
    models=[ModelSpec(name="openai/gpt-4o-mini", max_retries=1), ModelSpec(name="anthropic/claude-haiku-4-5")]
)
ONE = LLMConfig(models=[ModelSpec(name="openai/gpt-4o-mini", max_retries=1)])
LOST = FailureFacts(local_fault=LocalFault.LOST, text="its heartbeats stopped", request_sent=Sent.UNKNOWN)
TIMED_OUT = FailureFacts(local_fault=LocalFault.TIMEOUT, text="no answer within 5 s", request_sent=Sent.YES)
EMPTY = FailureFacts(http_status=200, answer_defect="empty", cost=0.001, request_sent=Sent.YES)
REJECTED = FailureFacts(http_status=200, answer_defect="rejected", cost=0.001, request_sent=Sent.YES)
BROKEN = FailureFacts(
    http_status=200, local_fault=LocalFault.BROKEN_VALIDATOR, answer=answer(), cost=0.01, request_sent=Sent.YES
)
LIMITED = http_error(429, "rate_limit_exceeded", "slow down", retry_after_s=1.5, retry_after_source="retry-after")

Drive = Callable[[Stage], Awaitable[CallHandle]]


def submit(config: LLMConfig = PAIR, **options: object) -> Drive:
    """Submit and wait for the end, whatever it is."""

    async def drive(stage: Stage) -> CallHandle:
        handle = await stage.dispatcher.submit(config, "Name a prime.", **options)
        with suppress(DurableLLMError):
            await handle.result()
        return handle

    return drive


async def cancelled(stage: Stage) -> CallHandle:
    """Submit, and cancel in mid-attempt."""
    handle = await stage.dispatcher.submit(PAIR, "Name a prime.")
    while len(stage.provider.orders) < 2:
        await asyncio.sleep(0.05)
    await handle.cancel()
    with suppress(DurableLLMError):
        await handle.result()
    return handle


async def cancelled_in_wait(stage: Stage) -> CallHandle:
    """Submit, and cancel in the middle of a wait."""
    handle = await stage.dispatcher.submit(ONE, "Name a prime.")
    while (await handle.status()).next_attempt_at is None:
        await asyncio.sleep(0.05)
    await handle.cancel()
    with suppress(DurableLLMError):
        await handle.result()
    return handle


SCENES: dict[str, tuple[Drive, list[Step]]] = {
    "success": (submit(), [answer()]),
    "retry": (submit(), [LIMITED, answer()]),
    "fallback": (submit(), [http_error(429, "insufficient_quota"), http_error(503), answer()]),
    "exhaustion": (submit(), [http_error(401), http_error(404)]),
    "rejection": (submit(), [http_error(400, "invalid_function_parameters", "Invalid schema for function 'f'")]),
    "cancellation": (cancelled, [http_error(500), never]),
    "cancellation-in-wait": (cancelled_in_wait, [http_error(429, retry_after_s=30.0), answer()]),
    "deadline": (submit(deadline=timedelta(seconds=2)), [never]),
    "worker-lost": (submit(), [LOST, answer()]),
    "timeout": (submit(), [TIMED_OUT, TIMED_OUT, answer()]),
    "unusable-answers": (submit(), [EMPTY, EMPTY, answer()]),
    "on-unknown-fail": (submit(policy=Policy(on_unknown="fail")), [LOST]),
    "rejected-answers": (submit(validators=["prime"]), [REJECTED, answer()]),
    "broken-validator": (submit(validators=["prime"], policy=Policy(rules={"misconfigured": "retry"})), [BROKEN]),
    "lmi-preset": (submit(policy=Policy(preset="lmi")), [http_error(429, exception="RateLimitError"), answer()]),
}


def anonymous(history: str) -> str:
    """Without the recording machine's name and paths, none of which a replay reads."""
    history = re.sub(r'"stackTrace": ?"(?:[^"\\]|\\.)*"', '"stackTrace": ""', history)
    return re.sub(r'"\d+@[A-Za-z0-9.-]+', '"1@worker', history)


async def record(names: list[str]) -> None:
    """Play the named scenes, or all, and write their histories."""
    env = await WorkflowEnvironment.start_local(
        dev_server_existing_path=binary("temporal"),
        data_converter=pydantic_data_converter,
        search_attributes=search_attributes.ALL,
    )
    FOLDER.mkdir(exist_ok=True)
    async with env:
        for name in names or SCENES:
            drive, steps = SCENES[name]
            async with stage(env.client, *steps) as ready:
                handle = await drive(ready)
                history = await env.client.get_workflow_handle(handle.call_id).fetch_history()
            (FOLDER / f"v{CURRENT}-{name}.json").write_text(anonymous(history.to_json()) + "\n")
            print(f"v{CURRENT}-{name}: {len(history.events)} events")  # noqa: T201


if __name__ == "__main__":
    asyncio.run(record(sys.argv[1:]))
