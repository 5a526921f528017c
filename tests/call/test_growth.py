"""How much history a call leaves: in proportion to its attempts, and with the prompt in it once."""

import os
from datetime import timedelta

import pytest

from durable_llm import ModelSpec, Policy
from tests.conftest import SetStage
from tests.support.scripted import answer, http_error

SPEC = ModelSpec(name="openai/gpt-4o-mini", max_retries=1_000)
STUBBORN = Policy(rules={"server_error": "retry"}, max_attempts=1_000)
FAILURE = http_error(500, "server_error", "The server had an error while processing your request.")

EVENTS_OF_A_CALL = 16
EVENTS_OF_AN_ATTEMPT = 12
"""An activity's three, a wait's two, the deadline's two, and five of the workflow tasks between them."""
BYTES_OF_A_CALL = 8_000
BYTES_OF_AN_ATTEMPT = 5_000

HUNDRED = pytest.param(
    100, marks=pytest.mark.skipif(os.environ.get("DURABLE_LLM_TEST_CACHE") == "0", reason="100 replays of 100 attempts")
)


@pytest.mark.parametrize("prompt", [1_000, 100_000])
@pytest.mark.parametrize("attempts", [1, 8, HUNDRED])
async def test_history_grows_with_attempts_and_holds_the_prompt_once(
    on_skipped_time: SetStage, attempts: int, prompt: int
) -> None:
    """Each attempt adds the same number of events and a few KB, however long the prompt."""
    async with on_skipped_time(*[FAILURE] * (attempts - 1), answer()) as stage:
        handle = await stage.dispatcher.submit(SPEC, "x" * prompt, policy=STUBBORN, deadline=timedelta(days=1))
        result = await handle.result()
        events = (await stage.client.get_workflow_handle(handle.call_id).fetch_history()).events
    assert len(result.attempts) == attempts
    assert len(events) <= EVENTS_OF_A_CALL + (attempts - 1) * (EVENTS_OF_AN_ATTEMPT + 0.5)
    size = sum(event.ByteSize() for event in events)
    assert size <= BYTES_OF_A_CALL + prompt + (attempts - 1) * BYTES_OF_AN_ATTEMPT
