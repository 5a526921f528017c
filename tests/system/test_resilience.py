"""llmock's verdict on a run of many calls with mixed faults: it watches from the provider's side, and finds nothing."""

import asyncio

import httpx
from llmock.testing import LLMockServer
from temporalio.testing import WorkflowEnvironment

from durable_llm import LLMResult, ModelSpec
from tests.support.workers import working

CALLS = 200
AT_ONCE = 25
TIMEOUT_S = 4.0
STALL_S = 6.0

LIMITED = {"type": "fail", "status": 429, "retry_after": 1}
BROKEN = {"type": "fail", "status": 500}
UNAVAILABLE = {"type": "fail", "status": 503}
OVERLOADED = {"type": "fail", "status": 529}


def cut(kind: str) -> dict:
    """A fault of a stream after two of its events."""
    return {"type": "stream_fault", "kind": kind, "after_chunks": 2, "stall_seconds": STALL_S}


# What a call meets before it is answered; the second half is streamed. Never two faults in a row without Retry-After:
# llmock takes full jitter, whose second wait may be the shorter one, for a constant interval. Nor a malformed event: it
# cannot see that a client read no further than that.
PLANS = [
    [LIMITED],
    [BROKEN],
    [UNAVAILABLE],
    [OVERLOADED],
    [LIMITED, LIMITED, UNAVAILABLE],
    [LIMITED],
    [cut("truncate")],
    [cut("disconnect")],
    [cut("stall")],
    [LIMITED, cut("truncate")],
]


def streams(number: int) -> bool:
    """Whether a call asks for a stream."""
    return number % len(PLANS) >= len(PLANS) // 2


async def script(provider: LLMockServer) -> None:
    """Tell the provider what each call's own model goes through."""
    behaviors = [
        {**fault, "times": 1, "match": {"model": f"gpt-{number}"}}
        for number in range(CALLS)
        for fault in PLANS[number % len(PLANS)]
    ]
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{provider.url}/_llmock/scenario", json={"behaviors": behaviors})
        answer.raise_for_status()


async def verdict(provider: LLMockServer) -> dict:
    """What the provider found."""
    async with httpx.AsyncClient() as client:
        return (await client.get(f"{provider.url}/_llmock/verdict")).json()


async def test_the_provider_finds_nothing_wrong_with_200_calls(server_env: WorkflowEnvironment) -> None:
    """Waits are kept, cut streams asked again, stalls left: no finding, no warning, and every call answered."""
    turns = asyncio.Semaphore(AT_ONCE)
    with LLMockServer() as provider:
        await script(provider)
        async with working(server_env.client, heartbeat_timeout_s=30.0) as dispatcher:

            async def call(number: int) -> LLMResult:
                spec = ModelSpec(
                    name=f"openai/gpt-{number}",
                    api_base=provider.base_url("openai"),
                    timeout=TIMEOUT_S if streams(number) else 20.0,
                    extra_params={"stream": True} if streams(number) else {},
                )
                async with turns:
                    return await dispatcher.call(spec, f"Name a prime above {number}.")

            results = await asyncio.gather(*map(call, range(CALLS)))
        await asyncio.sleep(
            STALL_S - TIMEOUT_S + 1
        )  # the provider writes a stalled request down when its stall is over
        found = await verdict(provider)
        requests = len(provider.state.journal)

    assert found["findings"] == []
    assert found["faults_injected"] == sum(len(PLANS[number % len(PLANS)]) for number in range(CALLS))
    assert all(result.text for result in results)
    assert [result.attempts_total - 1 for result in results] == [len(PLANS[n % len(PLANS)]) for n in range(CALLS)]
    assert requests == sum(result.attempts_total for result in results)
