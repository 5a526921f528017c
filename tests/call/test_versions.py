"""Callers and workers of different versions: an upgrade in the middle of a job, on either side, loses no call."""

import asyncio
import uuid
from datetime import timedelta
from typing import Any

import pytest
from pydantic import Field
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.common import RawValue
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from durable_llm import (
    CallCancelledError,
    CallConflictError,
    Dispatcher,
    DurableLLMError,
    LLMConfig,
    ModelSpec,
    UnsupportedRequestError,
)
from durable_llm.client.fingerprint import fingerprint
from durable_llm.client.prompt import to_prompt
from durable_llm.contract.names import ATTEMPT_ACTIVITY, MEMO_FINGERPRINT, WORKFLOW
from durable_llm.contract.validation import Validator
from tests.conftest import SetStage
from tests.support.scripted import answer, fresh_id
from tests.support.workers import working

MODEL = "openai/gpt-4o-mini"
TOOL = {"type": "function", "function": {"name": "f"}}
SPEC = ModelSpec(
    name=MODEL, api_base="https://llm.example/v1", api_key="os.environ/TEAM_KEY", timeout=5, max_retries=1,
    extra_params={"temperature": 0.5}, responses_api=True,
)  # fmt: skip

PLAIN = {
    "models": "5475cbc781bc2f0d06032a0cfcf3803e",
    "messages": "e7cac03d7b57fa296db34db3c0be106f",
    "tools": "4f53cda18c2baa0c0354bb5f9a3ecbe5",
    "parameters": "bc148f2bccb693502a18cbf8f4bed692",
}
FULL = {
    "models": "f86d600b2bc392a23ab7cf5f28d72024",
    "messages": "e7cac03d7b57fa296db34db3c0be106f",
    "tools": "49da429ee74cb70ff638100c92cbe6d7",
    "parameters": "34e466c647f94ca4d4a9b314ee1e6efc",
}
VALIDATORS = [Validator(name="non_empty"), Validator(name="regex", parameters={"pattern": "[0-9]+"})]
VALIDATED = {**PLAIN, "parameters": "34dcd87dd340d59f90b3531d30080907"}


def test_fingerprints_are_what_they_were() -> None:
    """A call of an older version is compared by the fingerprint that this version stored."""
    plain = fingerprint(LLMConfig(models=[ModelSpec(name=MODEL)]), to_prompt("Name a prime."))
    full = fingerprint(
        LLMConfig(models=[SPEC]),
        to_prompt("Name a prime.", tools=[TOOL], tool_choice="auto", response_format={"type": "json_object"}),
    )
    validated = fingerprint(
        LLMConfig(models=[ModelSpec(name=MODEL)]),
        to_prompt("Name a prime.", validators=VALIDATORS, tool_parser="lines"),
    )
    assert (plain, full, validated) == (PLAIN, FULL, VALIDATED)


def test_a_new_field_and_a_changed_default_are_no_difference() -> None:
    """A field that the caller left out or empty is not part of the request."""

    class Newer(ModelSpec):
        colour: str = "blue"
        responses_api: bool = True

    written: dict[str, Any] = {"name": MODEL, "api_base": None, "responses_api": False}
    prompt = to_prompt("Name a prime.")
    specs = [ModelSpec(name=MODEL), ModelSpec(**written), Newer(name=MODEL), Newer(**written)]
    assert [fingerprint(LLMConfig(models=[spec]), prompt) for spec in specs] == [PLAIN] * 4


def test_a_new_field_of_validators_is_no_difference() -> None:
    """The same holds for a validator's fields."""

    class Newer(Validator):
        colour: str = "blue"
        hints: list[str] = Field(default_factory=list)

    prompt = to_prompt("Name a prime.", validators=VALIDATORS, tool_parser="lines")
    newer = prompt.model_copy(update={"validators": [Newer(**dict(each)) for each in VALIDATORS]})
    config = LLMConfig(models=[ModelSpec(name=MODEL)])
    assert fingerprint(config, newer) == fingerprint(config, prompt)


@pytest.mark.parametrize(
    ("stored", "differing"),
    [
        ({part: value for part, value in PLAIN.items() if part != "tools"}, ()),
        ({**PLAIN, "validators": "of a newer client"}, ()),
        ({}, ()),
        ({**PLAIN, "messages": FULL["tools"]}, ("messages",)),
    ],
)
async def test_only_parts_that_both_versions_know_can_differ(
    on_server: SetStage, stored: dict[str, str], differing: tuple[str, ...]
) -> None:
    """A job whose client was upgraded attaches to the calls from before."""
    call_id = fresh_id()
    async with on_server(answer()) as stage:
        args = [{"models": [{"name": MODEL}]}, to_prompt("Name a prime.")]
        memo = {MEMO_FINGERPRINT: stored}
        await stage.client.start_workflow(WORKFLOW, args=args, id=call_id, task_queue=stage.task_queue, memo=memo)
        if not differing:
            assert (await stage.dispatcher.call(MODEL, "Name a prime.", call_id=call_id)).text == "2"
            return
        with pytest.raises(CallConflictError) as caught:
            await stage.dispatcher.submit(MODEL, "Name a prime.", call_id=call_id)
        assert caught.value.differing == differing


_FOREIGN = RawValue(Payload(metadata={"encoding": b"binary/of-another-client"}, data=b"?"))


@workflow.defn(name=WORKFLOW, sandboxed=False)
class NewerWorkflow:
    """A call of a future version, whose result this client cannot read."""

    @workflow.run
    async def run(self, request: dict, _prompt: Any) -> RawValue:
        """Return a result of another shape or of another encoding."""
        if request["session"] == "shape":
            return RawValue(workflow.payload_converter().to_payload({"choices": "of another shape"}))
        return _FOREIGN


@pytest.mark.parametrize("session", ["shape", "encoding"])
async def test_a_result_that_cannot_be_read_is_a_typed_error(server_env, session: str) -> None:
    """Result, ledger and status of a client older than the worker say so; no error of a converter escapes."""
    queue, unreadable = f"newer-{uuid.uuid4()}", r"cannot be read .*; upgrade this client"
    dispatcher = Dispatcher(server_env.client, task_queue=queue)
    async with Worker(
        server_env.client, task_queue=queue, workflows=[NewerWorkflow], workflow_runner=UnsandboxedWorkflowRunner()
    ):
        handle = await dispatcher.submit(MODEL, "Name a prime.", session=session)
        for ask in (handle.result, handle.attempts, handle.status):
            with pytest.raises(DurableLLMError, match=unreadable) as caught:
                await ask()
            assert caught.value.call_id == handle.call_id


@workflow.defn(name=WORKFLOW, sandboxed=False)
class NewerAttempts:
    """A call of a future version, whose orders this client cannot read; it ends when it is cancelled."""

    @workflow.run
    async def run(self, request: dict, _prompt: Any) -> None:
        """Begin one attempt, and wait."""
        args: list[Any] = {"empty": [], "shape": [{"number": "?"}], "encoding": [_FOREIGN]}[request["session"]]
        workflow.start_activity(ATTEMPT_ACTIVITY, args=args, start_to_close_timeout=timedelta(hours=1))
        await asyncio.Event().wait()


@pytest.mark.parametrize("session", ["empty", "shape", "encoding"])
async def test_a_history_that_cannot_be_read_is_a_typed_error(server_env, session: str) -> None:
    """The ledger is a typed error; status and the call's end are reported without it."""
    queue = f"newer-{uuid.uuid4()}"
    dispatcher = Dispatcher(server_env.client, task_queue=queue)
    async with Worker(
        server_env.client, task_queue=queue, workflows=[NewerAttempts], workflow_runner=UnsandboxedWorkflowRunner()
    ):
        handle = await dispatcher.submit(MODEL, "Name a prime.", session=session)
        async with asyncio.timeout(30):
            while not await attempt_begun(server_env.client, handle.call_id):
                await asyncio.sleep(0.05)
        with pytest.raises(DurableLLMError, match=r"cannot be read .*; upgrade this client"):
            await handle.attempts()
        status = await handle.status()
        assert (status.outcome, status.attempts) == ("running", 0)
        await handle.cancel()
        with pytest.raises(CallCancelledError) as cancelled:
            await handle.result()
        assert cancelled.value.attempts == []


async def attempt_begun(client: Client, call_id: str) -> bool:
    """Whether the history has an attempt."""
    history = await client.get_workflow_handle(call_id).fetch_history()
    return any(event.HasField("activity_task_scheduled_event_attributes") for event in history.events)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [{"models": [{"name": MODEL}]}],
        [{"models": [{"name": MODEL}]}, to_prompt("Name a prime."), "surplus"],
        ["no request", to_prompt("Name a prime.")],
        [{"models": [{"name": MODEL}]}, "no prompt"],
        [{"models": [{"name": MODEL}]}, {"messages": "none"}],
        [{"models": [{"name": MODEL}]}, {"messages": "none " * 2000}],
    ],
    ids=["nothing", "no prompt", "three", "no request", "text", "no messages", "large"],
)
async def test_a_raw_client_gets_an_error_and_no_stuck_call(
    server_env: WorkflowEnvironment, arguments: list[Any]
) -> None:
    """Whatever a workflow is started with, it ends, and nothing is sent."""
    task_queue = fresh_id()
    async with working(server_env.client, task_queue) as dispatcher:
        handle = await server_env.client.start_workflow(WORKFLOW, args=arguments, id=fresh_id(), task_queue=task_queue)
        with pytest.raises(UnsupportedRequestError):
            await dispatcher.attach(handle.id).result(timedelta(seconds=60))
