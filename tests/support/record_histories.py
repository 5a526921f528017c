"""Record the histories that tests replay: `python -m tests.support.record_histories [NAME ...]`.

Run it when a policy version is added, and commit the new files beside the old ones: an old history that no longer replays
is a running call that an upgrade would break.
"""

import asyncio
import json
import re
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from temporalio.client import WorkflowFailureError
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from durable_llm import Budget, Dispatcher, DurableLLMError, LLMConfig, ModelSpec, Policy
from durable_llm.client.handle import CallHandle
from durable_llm.contract import search_attributes
from durable_llm.contract.facts import FailureFacts, LocalFault, Sent
from durable_llm.contract.names import RESUME_SIGNAL, WORKER_SHUTDOWN, WORKFLOW
from durable_llm.contract.request import CallRequest, Prompt
from tests.conftest import Stage, binary, stage
from tests.support.calls import until_attempted, until_parked, until_waiting
from tests.support.scripted import Step, answer, http_error, never
from workflows.policy.versions import CURRENT

FOLDER = Path(__file__).parent / "histories"
PAIR = LLMConfig(
    models=[ModelSpec(name="openai/gpt-4o-mini", max_retries=1), ModelSpec(name="anthropic/claude-haiku-4-5")]
)
ONE = LLMConfig(models=[ModelSpec(name="openai/gpt-4o-mini", max_retries=1)])
BACKGROUND = LLMConfig(
    models=[ModelSpec(name="openai/gpt-4o-mini", responses_api=True, background=True, max_retries=1)]
)
BATCHED = LLMConfig(models=[ModelSpec(name="openai/gpt-4o-mini", batch=True, max_retries=2)])
FOLLOWED = FailureFacts(local_fault=LocalFault.DRAINED, request_sent=Sent.YES, response_id="resp_1")
FORGOTTEN = http_error(400, "previous_response_not_found", "Previous response with id 'resp_0' not found.")
LOST = FailureFacts(local_fault=LocalFault.LOST, text="its heartbeats stopped", request_sent=Sent.UNKNOWN)
TIMED_OUT = FailureFacts(local_fault=LocalFault.TIMEOUT, text="no answer within 5 s", request_sent=Sent.YES)
LIMITED = http_error(429, "rate_limit_exceeded", "slow down", retry_after_s=1.5, retry_after_source="retry-after")

DRAINED = FailureFacts(local_fault=LocalFault.DRAINED, text="the worker was shut down", request_sent=Sent.YES)
CUT_OFF = ApplicationError("worker is shutting down", type=WORKER_SHUTDOWN, non_retryable=True)
UNREACHABLE = FailureFacts(local_fault=LocalFault.CONNECT, text="connection refused", request_sent=Sent.NO)
NO_KEY = FailureFacts(local_fault=LocalFault.MISSING_KEY, text="OPENAI_API_KEY is not set", request_sent=Sent.NO)
KEYLESS = FailureFacts(
    local_fault=LocalFault.UNDECIPHERED, text="encrypted with the key '2026-11'", request_sent=Sent.NO
)
STORELESS = FailureFacts(local_fault=LocalFault.STORE_UNAVAILABLE, text="s3://prompts timed out", request_sent=Sent.NO)
UNCHECKED = FailureFacts(
    local_fault=LocalFault.BROKEN_VALIDATOR, text="validator prime: KeyError", request_sent=Sent.YES, answer=answer()
)
SPENT = FailureFacts(local_fault=LocalFault.BUDGET_SPENT, text="budget 'b': $5 of $5 is spent", request_sent=Sent.NO)
NO_ROOM = FailureFacts(local_fault=LocalFault.BUDGET_WAITS, text="budget 'b': $5 of $5 is spent", request_sent=Sent.NO)
HELD = FailureFacts(local_fault=LocalFault.HELD, text="openai is held by ann: it is moved", request_sent=Sent.NO)
QUICK = Policy(backoff_initial=timedelta(milliseconds=1), backoff_cap=timedelta(milliseconds=1))


def unusable(defect: str) -> FailureFacts:
    """A paid 200 that is not an answer."""
    return FailureFacts(http_status=200, answer_defect=defect, cost=0.001, request_sent=Sent.YES)


NEXT = [
    http_error(429, "insufficient_quota"), http_error(401), http_error(403), http_error(404),
    http_error(400, "context_length_exceeded"), http_error(413), unusable("refusal"), http_error(501),
    unusable("length"), NO_KEY, http_error(418),
]  # fmt: skip
"""One failure of each category that goes to the next model at once."""

AGAIN = [LIMITED, http_error(503), http_error(500), UNREACHABLE, unusable("invalid_tool_arguments"), CUT_OFF, DRAINED]
"""Failures after which the same model is asked again, apart from those with their own scene."""

Drive = Callable[[Stage], Awaitable[str]]
"""Plays a scene's caller; returns the call's id."""


@dataclass(frozen=True)
class Scene:
    """What a caller does, and what its provider does."""

    drive: Drive
    steps: list[Step]
    skips_time: bool = False
    """Whether it waits for so long that the server has to skip time."""


def submit(config: LLMConfig = PAIR, *, search_attributes: bool = True, **options: object) -> Drive:
    """Submit and wait for the end, whatever it is."""

    async def drive(stage: Stage) -> str:
        dispatcher = Dispatcher(stage.client, task_queue=stage.task_queue, search_attributes=search_attributes)
        handle = await dispatcher.submit(config, "Name a prime.", **options)
        return await ended(handle)

    return drive


async def ended(handle: CallHandle) -> str:
    """Wait for the end, whatever it is."""
    with suppress(DurableLLMError):
        await handle.result()
    return handle.call_id


async def cancelled(stage: Stage) -> str:
    """Submit, and cancel in mid-attempt."""
    handle = await stage.dispatcher.submit(PAIR, "Name a prime.")
    await until_attempted(stage.provider, 2)
    await handle.cancel()
    return await ended(handle)


async def cancelled_in_wait(stage: Stage) -> str:
    """Submit, and cancel in the middle of a wait."""
    handle = await stage.dispatcher.submit(ONE, "Name a prime.")
    await until_waiting(handle)
    await handle.cancel()
    return await ended(handle)


async def woken(stage: Stage) -> str:
    """Submit, and let its budget wake the call once it waits."""
    handle = await stage.dispatcher.submit(PAIR, "Name a prime.", budget=Budget(name="b", hard=5.0, on_spent="pause"))
    while not (await handle.status()).activity.startswith("paused"):
        await asyncio.sleep(0.05)
    await stage.client.get_workflow_handle(handle.call_id).signal(RESUME_SIGNAL)
    return await ended(handle)


async def held(stage: Stage) -> str:
    """Submit, and let the end of a hold wake the call."""
    handle = await stage.dispatcher.submit(PAIR, "Name a prime.")
    while not (await handle.status()).activity.startswith("paused"):
        await asyncio.sleep(0.05)
    await stage.client.get_workflow_handle(handle.call_id).signal(RESUME_SIGNAL)
    return await ended(handle)


async def steered(stage: Stage) -> str:
    """Submit, skip an attempt, retry at once, pause, replace the rest, and resume."""
    handle = await stage.dispatcher.submit(chain(3), "Name a prime.")
    await until_attempted(stage.provider, 1)
    await handle.skip(by="ann", why="it hangs")
    await until_waiting(handle)
    await handle.retry(by="ann", why="it is back")
    await until_attempted(stage.provider, 3)
    await handle.pause(by="ann", why="to look")
    await handle.replace("openai/other", by="ann", why="m2 is broken too")
    await handle.skip(by="ann", why="enough")
    await handle.resume(by="ann", why="looked")
    return await ended(handle)


async def parked(stage: Stage) -> str:
    """Submit, and let an operator resume the call once it is parked."""
    policy = Policy(on_exhausted="park", patience=timedelta(0))
    handle = await stage.dispatcher.submit(chain(2), "Name a prime.", policy=policy)
    await until_parked(handle)
    await handle.resume(by="ann", why="the key is paid for")
    return await ended(handle)


async def extended(stage: Stage) -> str:
    """Submit, and extend the deadline in a wait, of a paused call, and in the middle of an attempt that fails."""
    handle = await stage.dispatcher.submit(PAIR, "Name a prime.")
    for days in (2, 3):
        await until_waiting(handle)
        await handle.extend(timedelta(days=days), by="ann", why="it takes longer")
        await handle.pause(by="ann", why="to look")
        await handle.extend(timedelta(days=days, hours=1), by="ann", why="and longer")
        await handle.resume(by="ann", why="looked")
    await handle.retry(by="ann", why="it is back")
    await until_attempted(stage.provider, 2)
    await handle.extend(timedelta(days=4), by="ann", why="and longer")
    return await ended(handle)


async def extended_while_parked(stage: Stage) -> str:
    """Submit, extend the deadline of the parked call, and resume it."""
    policy = Policy(on_exhausted="park", patience=timedelta(0))
    handle = await stage.dispatcher.submit(chain(1), "Name a prime.", policy=policy)
    await until_parked(handle)
    await handle.extend(timedelta(days=2), by="ann", why="it takes longer")
    await until_parked(handle)
    await handle.resume(by="ann", why="the key is paid for")
    return await ended(handle)


async def extended_over_an_attempt(stage: Stage) -> str:
    """Submit, and extend the deadline in an attempt that does not end at the first one."""
    handle = await stage.dispatcher.submit(ONE, "Name a prime.", deadline=timedelta(seconds=3))
    await until_attempted(stage.provider, 1)
    await handle.extend(timedelta(days=2), by="ann", why="it takes longer")
    return await ended(handle)


async def given_an_answer(stage: Stage) -> str:
    """Submit, and end the call with an answer in the middle of an attempt."""
    handle = await stage.dispatcher.submit(PAIR, "Name a prime.")
    await until_attempted(stage.provider, 1)
    await handle.end("7", by="ann", why="everybody knows")
    return await ended(handle)


async def terminated(stage: Stage) -> str:
    """Submit, and have an operator terminate the call during an attempt."""
    handle = await stage.dispatcher.submit(PAIR, "Name a prime.")
    while not stage.provider.orders:
        await asyncio.sleep(0.05)
    await stage.client.get_workflow_handle(handle.call_id).terminate("the operator's reason")
    return await ended(handle)


async def unsupported(stage: Stage) -> str:
    """Start a call as a newer client would."""
    request = CallRequest(schema_version=99, models=PAIR.models)
    prompt = Prompt(messages=[{"role": "user", "content": "Name a prime."}])
    call_id = uuid.uuid4().hex
    with suppress(WorkflowFailureError):
        await stage.client.execute_workflow(WORKFLOW, args=[request, prompt], id=call_id, task_queue=stage.task_queue)
    return call_id


def chain(length: int, **options: object) -> LLMConfig:
    """Models with short names, so that the files stay small."""
    return LLMConfig(models=[ModelSpec(name=f"openai/m{number}", **options) for number in range(length)])


async def failing_late(_: object) -> FailureFacts:
    """A failure that leaves time to tell the call something before."""
    await asyncio.sleep(2)
    return http_error(401)


SCENES: dict[str, Scene] = {
    "success": Scene(submit(), [answer()]),
    "retry": Scene(submit(), [LIMITED, answer()]),
    "fallback": Scene(submit(), [http_error(429, "insufficient_quota"), http_error(503), answer()]),
    "exhaustion": Scene(submit(), [http_error(401), http_error(404)]),
    "rejection": Scene(submit(), [http_error(400, "invalid_function_parameters", "Invalid schema for function 'f'")]),
    "unsupported": Scene(unsupported, [answer()]),
    "cancellation": Scene(cancelled, [http_error(500), never]),
    "cancellation-in-wait": Scene(cancelled_in_wait, [http_error(429, retry_after_s=30.0), answer()]),
    "termination": Scene(terminated, [never]),
    "deadline": Scene(submit(deadline=timedelta(seconds=2)), [never]),
    "worker-lost": Scene(submit(), [LOST, answer()]),
    "background-resumed": Scene(submit(BACKGROUND), [FOLLOWED, answer(response_id="resp_1")]),
    "previous-response-lost": Scene(submit(BACKGROUND), [FORGOTTEN, answer()]),
    "workers-lost-too-often": Scene(submit(policy=QUICK), [LOST, LOST, LOST, answer()]),
    "encryption-key-missing": Scene(submit(), [KEYLESS] * 4 + [answer()], skips_time=True),
    "store-unavailable": Scene(submit(), [STORELESS, answer()]),
    "timeout": Scene(submit(), [TIMED_OUT, TIMED_OUT, answer()]),
    "unusable-answers": Scene(submit(), [unusable("empty"), unusable("empty"), answer()]),
    "rejected-answers": Scene(submit(validators=["prime"]), [unusable("rejected"), answer()]),
    "broken-validator": Scene(
        submit(validators=["prime"], policy=Policy(rules={"misconfigured": "retry"})), [UNCHECKED]
    ),
    "on-unknown-fail": Scene(submit(policy=Policy(on_unknown="fail")), [LOST]),
    "lmi-preset": Scene(
        submit(policy=Policy(preset="lmi")), [http_error(429, exception="RateLimitError"), answer()]
    ),
    "next-models": Scene(submit(chain(len(NEXT) + 1)), [*NEXT, answer()]),
    "same-model": Scene(submit(chain(1, max_retries=len(AGAIN)), policy=QUICK), [*AGAIN, answer()]),
    "long-waits": Scene(
        submit(chain(2)), [http_error(429, retry_after_s=90.0), http_error(429, retry_after_s=600.0), answer()],
        skips_time=True,
    ),
    "wait-past-deadline": Scene(submit(ONE), [http_error(429, retry_after_s=200_000.0)]),
    "rounds": Scene(
        submit(chain(2, max_retries=0), policy=Policy(on_exhausted="wait", patience=timedelta(0))),
        [http_error(503), http_error(401), http_error(503), http_error(401), answer()], skips_time=True,
    ),
    "patience": Scene(
        submit(chain(3, max_retries=0)),
        [http_error(503), http_error(403), http_error(503), http_error(503), http_error(503), answer()],
        skips_time=True,
    ),
    "max-attempts": Scene(submit(policy=QUICK.model_copy(update={"max_attempts": 2})), [http_error(503)]),
    "own-rules": Scene(submit(policy=Policy(rules={"permission": "retry", "not_found": "fail"})), [
        http_error(403), http_error(404),
    ]),
    "batch": Scene(submit(BATCHED), [http_error(503), TIMED_OUT, answer()]),
    "budget-spent": Scene(submit(budget=Budget(name="b", hard=5.0)), [http_error(503), SPENT]),
    "budget-waits": Scene(woken, [NO_ROOM, answer()]),
    "held": Scene(held, [HELD, answer()]),
    "steered": Scene(steered, [never, http_error(429, retry_after_s=30.0), never, answer()]),
    "parked": Scene(parked, [http_error(401), http_error(404), answer()]),
    "extended": Scene(extended, [http_error(429, retry_after_s=30.0), failing_late, answer()]),
    "extended-while-parked": Scene(extended_while_parked, [http_error(401), answer()]),
    "extended-over-an-attempt": Scene(extended_over_an_attempt, [never, answer()]),
    "given-an-answer": Scene(given_an_answer, [never]),
    "no-search-attributes": Scene(submit(search_attributes=False), [http_error(401), answer()]),
}  # fmt: skip


def anonymous(history: str) -> str:
    """Without the recording machine's name and paths, none of which a replay reads."""
    history = re.sub(r'"stackTrace": ?"(?:[^"\\]|\\.)*"', '"stackTrace": ""', history)
    return re.sub(r'"\d+@[A-Za-z0-9.-]+', '"1@worker', history)


@asynccontextmanager
async def server(*, skips_time: bool) -> AsyncIterator[WorkflowEnvironment]:
    """A server with our search attributes."""
    if skips_time:
        env = await WorkflowEnvironment.start_time_skipping(
            test_server_existing_path=binary("temporal-test-server"), data_converter=pydantic_data_converter
        )
        await search_attributes.register(env.client)
    else:
        env = await WorkflowEnvironment.start_local(
            dev_server_existing_path=binary("temporal"),
            data_converter=pydantic_data_converter,
            search_attributes=search_attributes.ALL,
        )
    async with env:
        yield env


async def record(names: list[str]) -> None:
    """Play the named scenes, or all, and write their histories."""
    FOLDER.mkdir(exist_ok=True)
    for skips_time in (False, True):
        async with server(skips_time=skips_time) as env:
            for name in names or SCENES:
                if SCENES[name].skips_time == skips_time:
                    await write(name, SCENES[name], env)


async def write(name: str, scene: Scene, env: WorkflowEnvironment) -> None:
    """Play one scene and write the history of each of its runs."""
    async with stage(env.client, *scene.steps) as ready:
        async with env.time_skipping_unlocked() if scene.skips_time else nullcontext():
            call_id = await scene.drive(ready)
        runs = [await env.client.get_workflow_handle(call_id).fetch_history()]
        while before := runs[0].events[0].workflow_execution_started_event_attributes.continued_execution_run_id:
            runs.insert(0, await env.client.get_workflow_handle(call_id, run_id=before).fetch_history())
    for number, history in enumerate(runs, 1):
        stem = f"v{CURRENT}-{name}" + (f"-run-{number}" if number > 1 else "")
        compact = json.dumps(history.to_json_dict(), separators=(",", ":"))
        (FOLDER / f"{stem}.json").write_text(anonymous(compact) + "\n")
        print(f"{stem}: {len(history.events)} events")


if __name__ == "__main__":
    asyncio.run(record(sys.argv[1:]))
