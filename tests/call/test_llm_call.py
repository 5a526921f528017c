"""The workflow on a real server with skipped time, over a scripted provider."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.api.sdk.v1 import WorkflowMetadata

from durable_llm import (
    Action,
    AllModelsExhaustedError,
    Attempt,
    Category,
    DeadlineExceededError,
    Dispatcher,
    LLMConfig,
    ModelSpec,
    Outcome,
    Policy,
    RequestRejectedError,
)
from durable_llm.contract.facts import FailureFacts, LocalFault, Sent
from tests.conftest import SetStage
from tests.support.scripted import answer, http_error, never
from workflows.details import current_details

PAIR = LLMConfig(models=[ModelSpec(name="openai/gpt-4o-mini"), ModelSpec(name="anthropic/claude-haiku-4-5")])


async def test_an_answer_ends_the_call_with_its_model_usage_cost_and_ledger(on_skipped_time: SetStage) -> None:
    """A call with an immediate answer has one entry, and the result has its cost."""
    async with on_skipped_time(answer("7")) as stage:
        result = await stage.dispatcher.call(PAIR, "Name a prime.")
    assert result.text == "7"
    assert (result.model, result.spec_index, result.cost, result.total_cost) == (
        "gpt-4o-mini-2024-07-18",
        0,
        0.01,
        0.01,
    )
    assert result.cost_complete
    [entry] = result.attempts
    assert (entry.number, entry.try_number, entry.outcome) == (1, 1, Outcome.ANSWERED)
    assert entry.request_id == "req_1"


async def test_a_rate_limit_is_retried_after_the_wait_that_the_provider_asked_for(on_skipped_time: SetStage) -> None:
    """The provider's delay is a lower bound with jitter on top, and the ledger names its source."""
    limit = http_error(429, "rate_limit_exceeded", "slow down", retry_after_s=20.0, retry_after_source="retry-after")
    async with on_skipped_time(limit, answer()) as stage:
        result = await stage.dispatcher.call(PAIR, "Name a prime.")
    first, second = result.attempts
    assert (first.category, first.decision, first.http_status) == (Category.RATE_LIMITED, Action.RETRY, 429)
    assert first.delay_s is not None
    assert 20.0 <= first.delay_s <= 22.0
    assert first.delay_reason == "rate_limited: provider asked 20 s (retry-after)"
    assert second.started_at is not None
    assert first.started_at is not None
    assert second.started_at - first.started_at >= timedelta(seconds=20)
    assert (second.model, second.try_number) == ("openai/gpt-4o-mini", 2)


async def test_a_used_up_quota_goes_to_the_next_model_without_a_wait(on_skipped_time: SetStage) -> None:
    """The call does not wait for a failure that waiting cannot clear."""
    async with on_skipped_time(http_error(429, "insufficient_quota"), answer()) as stage:
        result = await stage.dispatcher.call(PAIR, "Name a prime.")
    assert stage.provider.models == ["openai/gpt-4o-mini", "anthropic/claude-haiku-4-5"]
    assert result.spec_index == 1
    assert result.attempts[0].delay_s is None


async def test_the_last_error_and_every_attempt_reach_the_caller_when_all_models_fail(
    on_skipped_time: SetStage,
) -> None:
    """An exhausted chain raises its error with the ledger and the provider's last words."""
    async with on_skipped_time(http_error(503, None, "overloaded")) as stage:
        with pytest.raises(AllModelsExhaustedError) as caught:
            await stage.dispatcher.call(PAIR, "Name a prime.", policy=Policy(patience=timedelta(0)))
    assert len(caught.value.attempts) == 8  # 1 + max_retries on each of two models
    assert caught.value.last_error == "503 failed: overloaded"
    assert {entry.category for entry in caught.value.attempts} == {Category.OVERLOADED}


async def test_a_request_that_no_model_takes_fails_at_once(on_skipped_time: SetStage) -> None:
    """A broken transcript is not sent to the next model."""
    broken = http_error(400, "invalid_request_error", "tool_use ids were found without tool_result blocks")
    async with on_skipped_time(broken) as stage:
        with pytest.raises(RequestRejectedError) as caught:
            await stage.dispatcher.call(PAIR, "Name a prime.")
    assert stage.provider.models == ["openai/gpt-4o-mini"]
    assert "tool_use ids" in str(caught.value)


async def test_a_lost_worker_is_an_attempt_of_unknown_outcome_outside_the_retry_budget(
    on_skipped_time: SetStage,
) -> None:
    """What may have been billed is never hidden: outcome unknown, cost unknown, and the model's retries untouched."""
    lost = FailureFacts(local_fault=LocalFault.LOST, text="its heartbeats stopped")
    spec = ModelSpec(name="openai/gpt-4o-mini", max_retries=0)
    async with on_skipped_time(lost, lost, answer()) as stage:
        result = await stage.dispatcher.call(spec, "Name a prime.")
    assert [entry.outcome for entry in result.attempts] == [Outcome.UNKNOWN, Outcome.UNKNOWN, Outcome.ANSWERED]
    assert result.attempts[0].cost is None
    assert not result.cost_complete
    assert all(entry.delay_s is not None and entry.delay_s <= 2 for entry in result.attempts[:2])


async def test_a_third_lost_worker_leaves_the_model(on_skipped_time: SetStage) -> None:
    """A prompt that kills its workers is given up before it kills all of them."""
    lost = FailureFacts(local_fault=LocalFault.LOST)
    async with on_skipped_time(lost) as stage:
        with pytest.raises(AllModelsExhaustedError) as caught:
            await stage.dispatcher.call(PAIR, "Name a prime.")
    assert stage.provider.models == ["openai/gpt-4o-mini"] * 3 + ["anthropic/claude-haiku-4-5"] * 3
    assert caught.value.attempts[-1].rule == "lost-per-model"


async def test_on_unknown_fail_never_pays_twice(on_skipped_time: SetStage) -> None:
    """A caller who must not pay twice gets an error instead of a second request."""
    async with on_skipped_time(FailureFacts(local_fault=LocalFault.LOST)) as stage:
        with pytest.raises(AllModelsExhaustedError, match="must not be paid twice"):
            await stage.dispatcher.call(PAIR, "Name a prime.", policy=Policy(on_unknown="fail"))
    assert len(stage.provider.orders) == 1


async def test_the_deadline_ends_a_call_in_mid_attempt(on_server: SetStage) -> None:
    """A provider that never answers cannot hold a call beyond its deadline."""
    async with on_server(never) as stage:  # in real time: the skipping server stands still while an attempt is open
        with pytest.raises(DeadlineExceededError) as caught:
            await stage.dispatcher.call(PAIR, "Name a prime.", deadline=timedelta(seconds=3))
    [entry] = caught.value.attempts
    assert (entry.outcome, entry.cost) == (Outcome.CANCELLED, None)


async def test_a_wait_past_the_deadline_is_not_begun(on_skipped_time: SetStage) -> None:
    """If a wait would end after the deadline, the next model is asked or the call ends at once."""
    limit = http_error(429, "rate_limit_exceeded", retry_after_s=50.0)
    async with on_skipped_time(limit) as stage:
        began = datetime.now(UTC)
        with pytest.raises(AllModelsExhaustedError, match="past the deadline"):
            await stage.dispatcher.call("openai/gpt-4o-mini", "Name a prime.", deadline=timedelta(seconds=40))
    assert datetime.now(UTC) - began < timedelta(seconds=20)
    assert len(stage.provider.orders) == 1


async def test_an_hour_of_outage_is_waited_out_by_a_call_that_waits(on_skipped_time: SetStage) -> None:
    """With on_exhausted="wait" the call repeats the chain until a model answers, paced to its deadline."""
    healthy_at: list[datetime] = []

    def provider(order: object) -> object:
        from temporalio import activity

        now = activity.info().scheduled_time
        healthy_at.append(healthy_at[0] if healthy_at else now)
        return answer() if now - healthy_at[0] > timedelta(hours=1) else http_error(503)

    async with on_skipped_time(provider) as stage:
        policy = Policy(on_exhausted="wait", patience=timedelta(0))
        result = await stage.dispatcher.call(PAIR, "Name a prime.", policy=policy)
    assert result.text == "2"
    assert result.attempts_total < 30


async def test_an_overload_of_two_minutes_is_outlasted_with_few_requests(on_skipped_time: SetStage) -> None:
    """One model, the default policy: the answer that comes after 130 s, with at most twelve requests."""
    began: list[datetime] = []

    def provider(order: object) -> object:
        from temporalio import activity

        now = activity.info().scheduled_time
        began.append(now)
        return answer() if now - began[0] > timedelta(seconds=130) else http_error(529)

    async with on_skipped_time(provider) as stage:
        result = await stage.dispatcher.call("anthropic/claude-haiku-4-5", "Name a prime.")
    assert result.text == "2"
    assert result.attempts_total <= 12
    assert any("patience" in (entry.delay_reason or "") for entry in result.attempts)


async def test_a_small_prompt_travels_with_the_attempt_and_a_large_one_does_not(on_skipped_time: SetStage) -> None:
    """A small prompt travels with each order, undecoded; a large one is only in the history's first event."""
    async with on_skipped_time(answer()) as stage:
        await stage.dispatcher.call(PAIR, "Name a prime.")
        await stage.dispatcher.call(PAIR, "Name a prime. " * 1000)
    small, large = stage.provider.prompts
    assert small is not None
    assert small.messages == [{"role": "user", "content": "Name a prime."}]
    assert large is None


async def test_costs_of_failed_attempts_count(on_skipped_time: SetStage) -> None:
    """A paid answer that was rejected is in the total; a refusal by HTTP status costs nothing."""
    empty = FailureFacts(http_status=200, answer_defect="empty", cost=0.02, request_sent=Sent.YES)
    async with on_skipped_time(empty, http_error(500), answer()) as stage:
        result = await stage.dispatcher.call(PAIR, "Name a prime.")
    assert result.total_cost == pytest.approx(0.03)
    assert result.cost_complete
    assert result.cost == 0.01


async def test_the_ui_shows_the_ledger_as_a_table_without_prompt_text(on_server: SetStage) -> None:
    """Current details are a Markdown table; summaries say which try and why a wait."""
    limit = http_error(
        429, "rate_limit_exceeded", "slow | down <b>", retry_after_s=1.0, retry_after_source="retry-after"
    )
    async with on_server(limit, http_error(429, "insufficient_quota"), answer()) as stage:
        handle = await stage.dispatcher.submit(PAIR, "A secret question.")
        await handle.result()
        workflow = stage.client.get_workflow_handle(handle.call_id)
        metadata = await workflow.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
        history = await workflow.fetch_history()
    lines = metadata.current_details.splitlines()
    assert lines[0] == "**answered**"
    assert lines[4].startswith(
        "| 1 | openai/gpt-4o-mini | rate_limited: 429 rate_limit_exceeded: slow \\| down (b) | retry |"
    )
    assert lines[6].startswith("| 3 | anthropic/claude-haiku-4-5 | answered |")
    summaries = [
        json.loads(event.user_metadata.summary.data) for event in history.events if event.user_metadata.summary.data
    ]
    assert [summary.split(", ", 1)[-1] for summary in summaries if summary.endswith("of 4")] == [
        "try 1 of 4",
        "try 2 of 4",
        "try 1 of 4",
    ]
    assert any(summary.endswith("s, rate_limited: provider asked 1 s (retry-after)") for summary in summaries)
    assert "secret" not in metadata.current_details
    assert not any("secret" in summary for summary in summaries)


def test_the_table_is_bounded() -> None:
    """A call with a thousand attempts shows twenty of them and says how many are not shown."""
    entries = [Attempt(number=n, model="m", spec_index=0, try_number=1) for n in range(1, 1001)]
    table = current_details(entries, "waiting")
    assert table.count("\n| ") == 21
    assert "980 attempts between" in table


async def test_the_deadline_counts_from_acceptance_and_not_from_the_first_worker(on_server: SetStage) -> None:
    """The time that a call waits for a worker counts; its own timer ends it, with its ledger."""
    async with on_server(never) as stage:
        late = Dispatcher(stage.client, task_queue=f"{stage.task_queue}-late")
        handle = await late.submit(PAIR, "Name a prime.", deadline=timedelta(seconds=4))
    await asyncio.sleep(2)  # in real time: no worker is there
    async with on_server(never, task_queue=f"{stage.task_queue}-late"):
        began = datetime.now(UTC)
        with pytest.raises(DeadlineExceededError):
            await handle.result()
        assert datetime.now(UTC) - began < timedelta(seconds=3.5)
