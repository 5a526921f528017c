"""Requests that submit refuses before anything is sent."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from durable_llm import (
    AllModelsExhaustedError,
    Dispatcher,
    DispatcherUnavailableError,
    InvalidRequestError,
    ModelSpec,
    Policy,
)
from tests.conftest import SetStage
from tests.support.scripted import http_error

KEY = "sk-live-0123456789abcdef"  # a canary
TOOL = {"type": "function", "function": {"name": "add"}}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"messages": ""}, "the text is empty"),
        ({"messages": []}, "the list is empty"),
        ({"messages": 7}, "expected a text or a list"),
        ({"messages": {"role": "user"}}, "expected a text or a list"),
        ({"messages": [{"content": "hi"}]}, r"messages\[0\]: no 'role'"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, r"messages\[0\]: unknown role"),
        ({"messages": [{"role": "user"}]}, r"messages\[0\]: no 'content'"),
        ({"messages": [{"role": "user", "content": 7}]}, "'content' is a text or a list"),
        ({"messages": ["hi"]}, "expected a dict"),
        ({"messages": "x" * 2_000_000}, "limit is 1,900,000"),
        ({"messages": [{"role": "user", "content": [{"x": object()}]}]}, "not representable as JSON"),
        ({"tools": [{"name": "f"}]}, r"tools\[0\]: expected OpenAI's shape"),
        ({"response_format": int}, "response_format"),
        ({"call_id": ""}, "not empty"),
        ({"call_id": "x" * 1001}, "the limit is 1,000"),
        ({"call_id": "a\nb"}, "control character"),
        ({"call_id": f"job-{KEY}"}, "looks like a key"),
        ({"session": ""}, "session"),
        ({"session": KEY}, "session"),
        ({"metadata": {"k": KEY}}, "looks like a key"),
        ({"metadata": {"k": 1}}, "dict of strings"),
        ({"metadata": {"k": "x" * 3000}}, "limit is 2,000"),
        ({"deadline": timedelta(0)}, "above zero"),
        ({"deadline": datetime(2030, 1, 1)}, "no time zone"),  # the point of the row
        ({"deadline": datetime(2020, 1, 1, tzinfo=UTC)}, "in the past"),
        ({"deadline": 60}, "expected a timedelta"),
        ({"policy": {"patients": 3}}, "patients"),
        ({"policy": {"patience": -1}}, "patience"),
        ({"policy": {"max_attempts": 0}}, "max_attempts"),
        ({"policy": {"rules": {"permision": "fail"}}}, "rules"),
        ({"policy": {"rules": {"auth": "explode"}}}, "rules"),
        ({"policy": {"rules": {"cancelled": "retry"}}}, "takes no rule"),
        ({"policy": {"backoff_initial": timedelta(seconds=90)}}, "at most backoff_cap"),
        ({"messages": "漢" * 700_000}, "limit is 1,900,000"),
        ({"config": ModelSpec(name="openai/x", extra_params={"stop": "x" * 20_000})}, "limit is 16,000"),
        ({"config": [ModelSpec(name="openai/x")]}, "expected a model name"),
        ({"config": ModelSpec(name="openai/x", extra_params={"stop": object()})}, "not representable as JSON"),
        ({"config": {"model_list": [{"litellm_params": {}}]}}, "an entry has no 'model_name'"),
        (
            {"config": {"model_list": [{"model_name": "a", "litellm_params": {"model": "a"}}], "fallbacks": ["x"]}},
            "config",
        ),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "not representable as JSON"),
        ({"tools": 5}, "expected a list of tools"),
        ({"tool_choice": 5}, "tool_choice"),
        ({"policy": 5}, "expected a Policy or a dict"),
        ({"metadata": ["a"]}, "expected a dict"),
        ({"session": 7}, "session"),
        ({"session": "a\tb"}, "control character"),
        ({"call_id": "\ud800"}, "half of a surrogate pair"),
        ({"deadline": timedelta.max}, "at most 366 days"),
        ({"deadline": datetime(9999, 1, 1, tzinfo=UTC)}, "at most 366 days"),
        ({"if_failed": "explode"}, "if_failed"),
        ({"if_different": "explode"}, "if_different"),
        ({"validators": "non_empty"}, "validators: expected a list"),
        ({"validators": [len]}, "a function cannot be sent"),
        ({"validators": [{"name": len}]}, "a function cannot be sent"),
        ({"validators": [7]}, r"validators\[0\]: expected a name"),
        ({"validators": ["two words"]}, r"validators\[0\]: name"),
        ({"validators": [{"name": "regex", "pattern": "x"}]}, "pattern"),
        ({"validators": [{"name": "regex", "parameters": {"pattern": KEY}}]}, "looks like a key"),
        ({"validators": [{"name": "regex", "parameters": {"pattern": "x" * 70_000}}]}, "64,000"),
        ({"validators": [{"name": "regex", "parameters": {"pattern": object()}}]}, "not representable as JSON"),
        ({"validators": ["non_empty"] * 17}, "at most 16"),
        ({"config": {"models": ["openai/x"], "response_validator": len}}, "a function cannot be sent"),
        ({"config": {"name": "openai/x", "tool_parser": len}}, "a function cannot be sent"),
        ({"config": ModelSpec(name="openai/x"), "tools": [TOOL, TOOL]}, "more than one is named 'add'"),
        ({"tool_choice": "required"}, "'required' without tools"),
        ({"tool_choice": "any", "tools": [TOOL]}, "'none', 'auto', 'required'"),
        ({"tool_choice": {"name": "add"}, "tools": [TOOL]}, "'none', 'auto', 'required'"),
        ({"tool_choice": {"function": {"name": "sub"}}, "tools": [TOOL]}, r"names 'sub'.*\('add'\)"),
        ({"tool_choice": {"function": {"name": "add"}}}, r"names 'add'.*\(none\)"),
        ({"response_format": 5}, "response_format"),
        ({"response_format": {"type": "object", "description": "x" * 256_000}}, "limit is 256,000"),
        ({"response_format": {"type": "jsonschema"}}, "not one of OpenAI's formats"),
        ({"response_format": {"type": "json_schema", "schema": {}}}, "'json_schema': {'name'"),
    ],
)
async def test_bad_requests_are_refused_before_anything_is_sent(
    server_env: WorkflowEnvironment, change: dict, says: str
) -> None:
    """Each error names the wrong part, and no workflow is started."""
    dispatcher = Dispatcher(server_env.client, task_queue="refused")
    request = {"config": "openai/gpt-4o-mini", "messages": "Name a prime.", **change}
    with pytest.raises(InvalidRequestError, match=says) as caught:
        await dispatcher.submit(**request)
    assert KEY not in str(caught.value)


async def test_no_refused_request_started_a_workflow(server_env: WorkflowEnvironment) -> None:
    """The task queue of the refused requests has no call."""
    assert not [call async for call in server_env.client.list_workflows("TaskQueue = 'refused'")]


async def test_an_unreachable_server_is_named_within_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting gives up after `wait` and says which address did not answer."""
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    began = datetime.now(UTC)
    with pytest.raises(DispatcherUnavailableError, match=r"no Temporal server answered at 127\.0\.0\.1:1"):
        await Dispatcher.connect(wait=timedelta(seconds=1))
    assert datetime.now(UTC) - began < timedelta(seconds=4)


async def test_a_missing_namespace_is_named(server_env: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how to create it."""
    monkeypatch.setenv("TEMPORAL_ADDRESS", server_env.client.service_client.config.target_host)
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "nowhere")
    with pytest.raises(DispatcherUnavailableError, match="namespace create -n nowhere"):
        await Dispatcher.connect(wait=timedelta(seconds=5))


async def test_missing_search_attributes_are_named_unless_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says `durable-llm setup`; with search_attributes=False the client connects."""
    from tests.conftest import binary

    env = await WorkflowEnvironment.start_local(dev_server_existing_path=binary("temporal"))
    async with env:
        monkeypatch.setenv("TEMPORAL_ADDRESS", env.client.service_client.config.target_host)
        with pytest.raises(DispatcherUnavailableError, match=r"LLMModel, LLMOutcome.*durable-llm setup"):
            await Dispatcher.connect(wait=timedelta(seconds=5))
        async with Dispatcher.connect(wait=timedelta(seconds=5), search_attributes=False) as dispatcher:
            handle = await dispatcher.submit("openai/gpt-4o-mini", "Name a prime.")
            assert (await handle.status()).workers is False


async def test_search_attributes_of_another_type_are_named() -> None:
    """An upsert of a wrong type would block an answered call, so the attribute counts as missing."""
    from temporalio.common import SearchAttributeKey

    from durable_llm.contract import search_attributes
    from tests.conftest import binary

    wrong = [key for key in search_attributes.ALL if key.name != "LLMCostUSD"]
    env = await WorkflowEnvironment.start_local(
        dev_server_existing_path=binary("temporal"),
        search_attributes=[*wrong, SearchAttributeKey.for_keyword("LLMCostUSD")],
    )
    async with env:
        assert await search_attributes.missing(env.client) == ["LLMCostUSD"]


async def test_an_unusable_profile_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A profile that does not exist is a clear error."""
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "none.toml"))
    with pytest.raises(InvalidRequestError, match="connection settings"):
        await Dispatcher.connect(profile="missing", wait=timedelta(seconds=1))


def test_a_policy_is_strict() -> None:
    """Unknown fields and impossible numbers are errors at construction."""
    with pytest.raises(ValueError, match="max_atempts"):
        Policy(max_atempts=3)
    with pytest.raises(ValueError, match="1000"):
        Policy(max_attempts=1001)


async def test_a_deployments_rules_travel_in_the_call_and_its_own_win(
    on_server: SetStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DURABLE_LLM_RULES is read where the call is submitted; the ledger names the rule."""
    monkeypatch.setenv("DURABLE_LLM_RULES", "permission=fail, timeout = next")
    chain = ["openai/gpt-4o-mini", "openai/gpt-4o"]
    async with on_server(http_error(403)) as stage:
        with pytest.raises(AllModelsExhaustedError) as caught:
            await stage.dispatcher.call({"models": chain}, "Hi")
        assert [entry.rule for entry in caught.value.attempts] == ["rules: permission"]
        with pytest.raises(AllModelsExhaustedError) as caught:
            await stage.dispatcher.call({"models": chain}, "Hi", policy=Policy(rules={"permission": "next"}))
    assert len(caught.value.attempts) == 2


@pytest.mark.parametrize("rules", ["permission", "permision=fail", "permission=explode", "cancelled=fail"])
async def test_unusable_rules_of_a_deployment_are_refused_at_submit(
    server_env: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch, rules: str
) -> None:
    """The error names the variable, and nothing is sent."""
    monkeypatch.setenv("DURABLE_LLM_RULES", rules)
    with pytest.raises(InvalidRequestError, match="DURABLE_LLM_RULES"):
        await Dispatcher(server_env.client, task_queue="refused").submit("openai/gpt-4o-mini", "Hi")
