"""Budgets: calls that spend together, of which none overshoots, and what becomes of those that there is no money for."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Replayer, Worker

from durable_llm import (
    AllModelsExhaustedError,
    Budget,
    BudgetExceededError,
    CallStatus,
    Dispatcher,
    InvalidRequestError,
    LLMConfig,
    ModelSpec,
    Policy,
)
from durable_llm.contract.budgets import budget_id, budgets_of
from tests.conftest import workflow_runner
from tests.support.calls import completion, until
from tests.support.cli import run, server
from tests.support.quota_histories import RECORDED
from tests.support.scripted import fresh_id
from tests.support.wire import playing
from workers.plugin import DurableLLMPlugin
from workers.settings import WorkerSettings
from workflows.budget import LLMBudget
from workflows.hold import LLMHold
from workflows.llm_call import LLMCall
from workflows.quota import LLMQuota

MODEL = "openai/costly"
A_CALL = 0.001
"""USD: a thousand dollars for a million tokens of output, and one of them."""


@asynccontextmanager
async def spending(client: Client, tmp_path: Path) -> AsyncIterator[Dispatcher]:
    """A worker with a price for the model, and a dispatcher."""
    prices = tmp_path / "prices.yaml"
    prices.write_text(
        yaml.safe_dump({MODEL: {"input": 0, "output": 1000}, "openai/other": {"input": 0, "output": 1000}})
    )
    settings = WorkerSettings(prices=prices, api_base_hosts="127.0.0.1")
    task_queue = f"test-{uuid.uuid4()}"
    worker = Worker(
        client, task_queue=task_queue, plugins=[DurableLLMPlugin(settings)], workflow_runner=workflow_runner()
    )
    async with worker, Dispatcher(client, task_queue=task_queue) as dispatcher:
        yield dispatcher


def at(url: str, *names: str) -> LLMConfig:
    """Models that may write one token."""
    return LLMConfig(
        models=[
            ModelSpec(name=name, api_base=url + "/v1", extra_params={"max_tokens": 1}) for name in names or (MODEL,)
        ]
    )


def answer(**fields: Any) -> dict:
    """One token."""
    body = completion("7")
    body["usage"] = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
    return {"body": body, **fields}


async def until_true(look: Callable[[], Any]) -> None:
    """Wait until something is true."""
    while not await look():
        await asyncio.sleep(0.05)


def is_paused(status: CallStatus) -> bool:
    """Whether a call waits for the budget."""
    return status.activity.startswith("paused: budget 'small'")


async def test_concurrent_calls_do_not_overshoot(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """Of thirty calls at once ten are paid for; the others end with an error that says how much there was."""
    budget = Budget(name="ten", hard=10 * A_CALL)
    async with playing(answer()) as wire, spending(server_env.client, tmp_path) as dispatcher:
        config = at(wire.url, MODEL, "openai/other")
        ended = await asyncio.gather(
            *(dispatcher.call(config, f"Hi {number}.", budget=budget) for number in range(30)), return_exceptions=True
        )
        status = await dispatcher.budget("ten")
    refused = [each for each in ended if isinstance(each, BudgetExceededError)]
    assert len(refused) == 20
    assert len(wire.requests) == 10  # also none of the second model: that would spend what the budget protects
    assert "budget 'ten': $0.01 of $0.01 is spent" in refused[0].message
    assert [entry.category for entry in refused[0].attempts][-1] == "budget"
    assert all(entry.cost == 0 for entry in refused[0].attempts)
    assert (status.spent, status.reserved, status.waiting) == (pytest.approx(10 * A_CALL), 0, 0)


async def test_a_paused_call_goes_on_when_the_budget_is_raised(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """It waits without attempts and says for what; `raise_budget` wakes it; the wait is in its ledger."""
    budget = Budget(name="small", hard=A_CALL / 2, on_spent="pause")
    async with playing(answer()) as wire, spending(server_env.client, tmp_path) as dispatcher:
        call = await dispatcher.submit(at(wire.url), "Hi.", budget=budget)
        await until(call, is_paused)
        assert (len(wire.requests), (await dispatcher.budget("small")).waiting) == (0, 1)
        raised = await dispatcher.raise_budget("small", hard=1.0)
        result = await call.result()
    assert raised.hard == 1.0
    assert [entry.decision for entry in result.attempts] == ["wait", None]
    assert result.attempts[0].delay_s > 0
    assert (result.attempts[1].try_number, result.total_cost) == (1, A_CALL)


@pytest.mark.parametrize("by_option", [True, False])
async def test_the_command_line_raises_a_budget(
    server_env: WorkflowEnvironment, tmp_path: Path, by_option: bool
) -> None:
    """Budgets belong to a task queue: an option names it, or the variable that workers read."""
    budget = Budget(name="small", hard=A_CALL / 2, on_spent="pause")
    async with playing(answer()) as wire, spending(server_env.client, tmp_path) as dispatcher:
        call = await dispatcher.submit(at(wire.url), "Hi.", budget=budget)
        await until(call, is_paused)
        queue = dispatcher.task_queue
        where, env = (("--task-queue", queue), {}) if by_option else ((), {"DURABLE_LLM_TASK_QUEUE": queue})
        words = ("budget", "small", "--raise-to", "1", "--json", *where)
        end = await run(*words, **server(server_env.client), **env)
        assert (end.status, end.json["hard"]) == (0, 1.0)
        result = await call.result()
    assert result.total_cost == A_CALL


async def test_a_call_waits_for_those_in_flight_whose_estimate_was_too_high(
    server_env: WorkflowEnvironment, tmp_path: Path
) -> None:
    """The first may take all, takes a part, and then there is room for the second, which would have been refused."""
    budget = Budget(name="shared", hard=60 * A_CALL)
    long = ModelSpec(name=MODEL, extra_params={"max_tokens": 50})
    async with playing(answer()) as wire, spending(server_env.client, tmp_path) as dispatcher:
        config = LLMConfig(models=[long.model_copy(update={"api_base": wire.url + "/v1"})])
        results = await asyncio.gather(
            *(dispatcher.call(config, f"Hi {number}.", budget=budget) for number in range(3))
        )
    assert [result.text for result in results] == ["7"] * 3


async def test_what_nobody_knows_counts_by_its_estimate(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """A connection that is lost behind the request may have been paid: the budget says how much of it is a guess."""
    async with playing({"fault": "timeout"}) as wire, spending(server_env.client, tmp_path) as dispatcher:
        spec = at(wire.url).models[0].model_copy(update={"timeout": 0.3, "max_retries": 0})
        with pytest.raises(AllModelsExhaustedError):
            await dispatcher.call(
                LLMConfig(models=[spec]), "Hi.", budget=Budget(name="guess", soft=1.0),
                policy={"rules": {"timeout": "fail"}},
            )  # fmt: skip
        status = await dispatcher.budget("guess")
    assert (status.spent, status.estimated, status.reserved) == (A_CALL, A_CALL, 0)


async def test_a_cancelled_attempt_counts_by_its_estimate(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """The provider may have billed it; nothing stays reserved."""
    async with playing({"fault": "timeout"}) as wire, spending(server_env.client, tmp_path) as dispatcher:
        call = await dispatcher.submit(at(wire.url), "Hi.", budget=Budget(name="cancelled", hard=1.0))
        await wire.asked.wait()
        await call.cancel()

        async def is_settled() -> bool:
            return (await dispatcher.budget("cancelled")).reserved == 0

        await until_true(is_settled)
        status = await dispatcher.budget("cancelled")
    assert (status.spent, status.estimated) == (A_CALL, A_CALL)


async def test_budgets_survive_their_workers_and_replay(server_env: WorkflowEnvironment, tmp_path: Path) -> None:
    """What is spent stands in Temporal; histories of a budget and of a paused call replay."""
    budget = Budget(name="kept", hard=A_CALL, on_spent="pause")
    async with playing(answer()) as wire, spending(server_env.client, tmp_path) as dispatcher:
        await dispatcher.call(at(wire.url), "Hi.", budget=budget)
        paused = await dispatcher.submit(at(wire.url), "Hi.", budget=budget, call_id=fresh_id())

        async def waits() -> bool:
            return (await dispatcher.budget("kept")).waiting == 1

        await until_true(waits)
        await dispatcher.raise_budget("kept", hard=2 * A_CALL)
        await paused.result()
        handles = (budget_id(dispatcher.task_queue, "kept"), paused.call_id)
        histories = [await server_env.client.get_workflow_handle(each).fetch_history() for each in handles]
        described = await server_env.client.get_workflow_handle(handles[0]).describe()
    assert described.status is WorkflowExecutionStatus.RUNNING
    replayer = Replayer(
        workflows=[LLMCall, LLMBudget], data_converter=pydantic_data_converter, workflow_runner=workflow_runner()
    )
    for history in histories:
        assert (await replayer.replay_workflow(history)).replay_failure is None


@pytest.mark.parametrize("kind", RECORDED)
async def test_recorded_histories_replay(kind: str) -> None:
    """Quotas and budgets run for as long as they are used, so every upgrade meets old ones."""
    history = WorkflowHistory.from_json("recorded", json.loads(RECORDED[kind].read_text()))
    replayer = Replayer(
        workflows=[LLMQuota, LLMBudget, LLMHold],
        data_converter=pydantic_data_converter,
        workflow_runner=workflow_runner(),
    )
    assert (await replayer.replay_workflow(history)).replay_failure is None


def test_the_operators_budgets_are_those_of_a_tenant_or_a_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They join what the caller gave, and win over a budget of the same name."""
    chains = tmp_path / "chains.yaml"
    chains.write_text(
        yaml.safe_dump(
            {
                "budgets": {
                    "research": {"tenant": "research", "hard": 100, "soft": 80, "per": "day", "on_spent": "pause"},
                    "nightly": {"session": "nightly", "hard": 20},
                }
            }
        )
    )
    monkeypatch.setenv("DURABLE_LLM_CHAINS", str(chains))

    def names(**labels: str | None) -> list[str]:
        own = [Budget(name="own", hard=1), Budget(name="nightly", hard=999)]
        found = budgets_of(own, **{"tenant": None, "session": None, **labels})
        return [f"{budget.name}={budget.hard:g}" for budget in found]

    assert names() == ["own=1", "nightly=999"]
    assert names(tenant="research") == ["own=1", "nightly=999", "research=100"]
    assert names(session="nightly") == ["own=1", "nightly=20"]


@pytest.mark.parametrize(
    ("budget", "says"),
    [
        ({"name": "a"}, "expected hard or soft, an amount in USD"),
        ({"name": "a", "hard": 0}, "hard: Input should be greater than 0"),
        ({"name": "a/b", "hard": 1}, "name: String should match"),
        ({"name": "a", "hard": 1, "on_spent": "stop"}, "on_spent: Input should be 'refuse' or 'pause'"),
        ({"name": "a", "limit": 1}, "limit: Extra inputs"),
        (5, "budget"),
    ],
)
async def test_a_wrong_budget_is_refused_before_anything_is_sent(
    server_env: WorkflowEnvironment, budget: Any, says: str
) -> None:
    """Saying what to write."""
    async with Dispatcher(server_env.client, task_queue="nobody") as dispatcher:
        with pytest.raises(InvalidRequestError, match=says):
            await dispatcher.submit("openai/gpt-4o-mini", "Hi.", budget=budget)
        with pytest.raises(InvalidRequestError, match="no call has used 'nonesuch' yet"):
            await dispatcher.budget("nonesuch")
        with pytest.raises(InvalidRequestError, match="greater than 0"):
            await dispatcher.raise_budget("a", hard=-1)


def test_a_budget_takes_no_rule() -> None:
    """Another model would spend what it protects."""
    with pytest.raises(ValueError, match="'budget' takes no rule"):
        Policy(rules={"budget": "next"})
