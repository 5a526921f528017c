"""An outage of a week, on skipped time: a call that may wait stays within its ceiling, and its end can be read."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from temporalio import activity

from durable_llm import AllModelsExhaustedError, DeadlineExceededError, LLMConfig, LLMResult, ModelSpec, Policy
from durable_llm.contract.categories import Action, Outcome
from durable_llm.contract.ledger import ENTRY_BYTES
from durable_llm.contract.policy import MAX_ATTEMPTS_CEILING
from tests.conftest import SetStage, Stage
from tests.support.scripted import answer, http_error

PAIR = LLMConfig(models=[ModelSpec(name="openai/gpt-4o-mini"), ModelSpec(name="anthropic/claude-haiku-4-5")])
PATIENT = Policy(on_exhausted="wait", max_attempts=MAX_ATTEMPTS_CEILING)


def down_for(outage: timedelta) -> Callable[[object], object]:
    """A provider that is down from its first request on."""
    began: list[datetime] = []

    def provider(_: object) -> object:
        now = activity.info().scheduled_time
        began.append(now)
        return answer() if now - began[0] > outage else http_error(503, "overloaded", "very busy, " * 200)

    return provider


async def ended(stage: Stage) -> LLMResult:
    """The result of a patient call; asked again where the skipping server ends a long poll, after 20 s, with nothing."""
    handle = await stage.dispatcher.submit(PAIR, "Name a prime.", policy=PATIENT, deadline=timedelta(days=8))
    while True:
        try:
            return await handle.result()
        except RuntimeError as error:
            assert "No completion event" in str(error)  # noqa: PT017  # all other errors are the tests' own


async def test_a_week_of_outage_is_waited_out(on_skipped_time: SetStage) -> None:
    """The call is answered within its ceiling of attempts, and its result decodes with a bounded ledger."""
    async with on_skipped_time(down_for(timedelta(days=7))) as stage:
        result = await ended(stage)
    assert result.text == "2"
    assert 200 < result.attempts_total <= MAX_ATTEMPTS_CEILING
    assert len(result.attempts) == 200
    assert [entry.number for entry in result.attempts[:20]] == list(range(1, 21))
    assert result.attempts[-1].outcome == Outcome.ANSWERED
    assert max(len(entry.model_dump_json().encode()) for entry in result.attempts) <= ENTRY_BYTES
    assert {entry.decision for entry in result.attempts[20:-1]} == {Action.NEXT, Action.WAIT}


async def test_an_outage_longer_than_the_deadline_ends_with_its_ledger(on_skipped_time: SetStage) -> None:
    """The call keeps asking until its last hours, and its error decodes too."""
    async with on_skipped_time(down_for(timedelta(days=30))) as stage:
        with pytest.raises((AllModelsExhaustedError, DeadlineExceededError)) as caught:
            await ended(stage)
    entries = caught.value.attempts
    assert len(entries) == 200
    assert entries[-1].number <= MAX_ATTEMPTS_CEILING
    assert entries[-1].started_at is not None
    assert entries[0].started_at is not None
    assert entries[-1].started_at - entries[0].started_at > timedelta(days=7, hours=20)
