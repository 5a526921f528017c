"""A call's tenant and priority: what is refused, and what Temporal is told."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from temporalio.testing import WorkflowEnvironment

from durable_llm import Dispatcher, InvalidRequestError
from durable_llm.client.tokens import new_token
from tests.conftest import stage
from tests.support.scripted import answer, fresh_id


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tenant": ""}, "tenant: expected a text that is not empty"),
        ({"tenant": "t" * 65}, "tenant: "),
        ({"priority": 0}, "priority: expected 1 .first. to 5 .last., got 0"),
        ({"priority": 6}, "priority: expected 1"),
        ({"priority": "high"}, "priority: expected 1"),
    ],
)
async def test_a_wrong_share_is_refused(server_env: WorkflowEnvironment, options: Any, says: str) -> None:
    """Before anything is sent."""
    async with Dispatcher(server_env.client, task_queue="nobody") as dispatcher:
        with pytest.raises(InvalidRequestError, match=says):
            await dispatcher.submit("openai/gpt-4o-mini", "Hi.", **options)


async def test_temporal_keeps_the_share_of_a_call_and_of_its_attempts(
    server_env: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tenant is the fairness key, with the weight of the operator's file; attempts inherit both."""
    chains = tmp_path / "chains.yaml"
    chains.write_text(yaml.safe_dump({"tenants": {"research": 2.5}}))
    monkeypatch.setenv("DURABLE_LLM_CHAINS", str(chains))
    async with stage(server_env.client, answer("7")) as here:
        await here.dispatcher.call(
            "openai/gpt-4o-mini", "Hi.", call_id=(call_id := fresh_id()), tenant="research", priority=4
        )
        history = await server_env.client.get_workflow_handle(call_id).fetch_history()
    kept = history.events[0].workflow_execution_started_event_attributes.priority
    assert (kept.priority_key, kept.fairness_key, kept.fairness_weight) == (4, "research", 2.5)
    [scheduled] = [each for each in history.events if each.HasField("activity_task_scheduled_event_attributes")]
    own = scheduled.activity_task_scheduled_event_attributes.priority
    assert (own.priority_key or 4, own.fairness_key or "research") == (4, "research")


@pytest.mark.parametrize("weight", ["much", 0, True, 5000])
async def test_a_wrong_weight_is_named(
    server_env: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weight: object
) -> None:
    """With the file's variable and the tenant."""
    chains = tmp_path / "chains.yaml"
    chains.write_text(yaml.safe_dump({"tenants": {"research": weight}}))
    monkeypatch.setenv("DURABLE_LLM_CHAINS", str(chains))
    async with Dispatcher(server_env.client, task_queue="nobody") as dispatcher:
        with pytest.raises(InvalidRequestError, match=r"DURABLE_LLM_CHAINS: tenants: research: expected a weight"):
            await dispatcher.submit("openai/gpt-4o-mini", "Hi.", tenant="research")


def test_a_token_has_a_tenant_that_calls_can_have(tmp_path: Path) -> None:
    """A longer name would fail with each call."""
    with pytest.raises(InvalidRequestError, match="tenant"):
        new_token(tmp_path / "tokens", "t" * 65, [])
