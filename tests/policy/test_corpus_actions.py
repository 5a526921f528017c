"""The failure corpus: bytes on the wire, through litellm, the activity and the policy, to the right action.

First quickly, the policy alone asked about each case's facts; then whole calls on a real server, which wait, fall over
or end as the ledger says.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest
from temporalio.testing import WorkflowEnvironment

from activities.send import warm_up
from durable_llm import Attempt, Dispatcher, LLMConfig, ModelSpec, Policy
from durable_llm.client.handle import CallHandle
from durable_llm.contract.categories import Action
from tests.attempt.test_corpus_facts import CASES, WITH_KEY, facts_of, spec_of
from tests.support.attempts import TOOLS
from tests.support.wire import playing
from tests.support.workers import working
from workflows.policy.decide import Progress
from workflows.policy.versions import CURRENT, VERSIONS

WORD = {"retry": "retry", "next": "fallback", "fail": "fail"}
AT_ONCE = 8

ANSWER = {
    "id": "x", "object": "chat.completion", "created": 1, "model": "m",
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
}  # fmt: skip


def accepted(case: dict) -> list[str]:
    """The actions that are right for a case. After a timeout, which may have been paid, the next model is right too."""
    if case.get("fault") == "timeout":
        return ["retry", "fallback"]
    return [case["expected"], *(case.get("also_ok") or [])]


@pytest.mark.parametrize("case", WITH_KEY, ids=lambda case: case["id"])
async def test_the_policy_takes_the_right_action_after_the_right_wait(case: dict) -> None:
    """With another model in the chain: retry, fall back or fail, and never sooner than the provider asked."""
    facts, _ = await facts_of(case)
    decision = VERSIONS[CURRENT].decide(facts, Progress(budgets=(3, 3)), Policy(), 86_400.0)
    taken = WORD[decision.action]
    assert taken in accepted(case), f"{decision.rule}: {facts.headline()}"
    if taken == "retry" and case.get("expected_min_delay_s"):
        assert decision.floor_s >= case["expected_min_delay_s"]


@pytest.fixture
async def dispatcher(server_env: WorkflowEnvironment) -> AsyncIterator[Dispatcher]:
    """A dispatcher before a worker that makes real attempts at loopback, warm as a worker is that has started."""
    await warm_up()
    async with working(server_env.client, heartbeat_timeout_s=30.0) as ready:
        yield ready


async def decided(handle: CallHandle) -> Attempt:
    """The first ledger entry, once the call has decided and any wait has begun."""
    while True:
        entries = await handle.attempts()
        if entries and entries[0].decision and (entries[0].decision != Action.RETRY or entries[0].delay_s):
            return entries[0]
        await asyncio.sleep(0.1)


async def called(dispatcher: Dispatcher, case: dict) -> tuple[Attempt, int]:
    """The first entry of a call whose first model plays `case`, and the requests that its first attempt made."""
    async with AsyncExitStack() as stack:
        wire = await stack.enter_async_context(playing(case))
        other = await stack.enter_async_context(playing({"body": ANSWER}))
        no_key = case["id"].startswith("litellm-local-missing")
        first = ModelSpec(
            name=case["litellm_model"],
            api_base=None if no_key else wire.url,
            timeout=case.get("timeout_s") or 20.0,
            **spec_of(case),
        )
        config = LLMConfig(models=[first, ModelSpec(name="hosted_vllm/m", api_base=other.url)])
        tools = TOOLS if (case.get("call") or {}).get("_tools") else None
        # A short backoff could send the second request before the first entry is read.
        policy = Policy(backoff_initial=timedelta(hours=1), backoff_cap=timedelta(hours=1))
        handle = await dispatcher.submit(config, "Name a prime.", tools=tools, policy=policy)
        entry = await decided(handle)
        requests = len(wire.requests)
        await handle.cancel()
    return entry, requests


async def test_whole_calls_do_the_right_thing_for_every_case(dispatcher: Dispatcher) -> None:
    """All 65 cases over HTTP, in the workflow: the action, the wait, and one request per attempt."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def wrong(case: dict) -> str | None:
        async with turns:
            entry, requests = await called(dispatcher, case)
        taken = WORD[entry.decision or ""]
        unsent = case.get("fault") == "connection_refused" or case["id"].startswith("litellm-local-missing")
        if taken not in accepted(case):
            return f"{case['id']}: {taken} by {entry.rule}, {accepted(case)} is right: {entry.message}"
        if taken == "retry" and (entry.delay_s or 0.0) < (case.get("expected_min_delay_s") or 0.0):
            return f"{case['id']}: waits {entry.delay_s} s, {case['expected_min_delay_s']} s is asked"
        return f"{case['id']}: {requests} requests" if requests != (0 if unsent else 1) else None

    assert len(CASES) == 65
    assert not list(filter(None, await asyncio.gather(*map(wrong, CASES))))
