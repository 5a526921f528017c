"""Saved histories replay: an upgrade must not break a running call."""

import asyncio
import base64
import json
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.common import RawValue
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

from durable_llm.contract.carried import Wait
from durable_llm.contract.categories import Action, CallOutcome, Category
from durable_llm.contract.facts import FailureFacts
from durable_llm.contract.names import WORKFLOW
from durable_llm.contract.result import Answer, LLMResult
from durable_llm.errors import CALL_ENDINGS
from tests.conftest import SetStage, workflow_runner
from tests.support.cli import Ended, run, server
from tests.support.record_histories import FOLDER
from tests.support.scripted import http_error
from workers.recorded.histories import from_files
from workers.recorded.replay import Report, replay
from workflows.llm_call import LLMCall
from workflows.policy.decide import Decision

pytestmark = pytest.mark.workflow  # each history replays in the sandbox too


HISTORIES = sorted(FOLDER.glob("*.json"))
RULES_OF_DECISIONS = {
    "deadline", "lost-per-model", "max_attempts", "max_retries", "max_wait", "on_unknown", "once",
}  # fmt: skip
"""Rules that `decide` itself names, in addition to the table's rows."""


@pytest.fixture
def replayer() -> Replayer:
    """Replays calls with today's code."""
    return Replayer(workflows=[LLMCall], data_converter=pydantic_data_converter, workflow_runner=workflow_runner())


@pytest.fixture(params=HISTORIES, ids=lambda path: path.stem)
def history(request: pytest.FixtureRequest) -> WorkflowHistory:
    """Each saved history."""
    return WorkflowHistory.from_json(request.param.stem, request.param.read_text())


async def test_a_saved_history_replays(replayer: Replayer, history: WorkflowHistory) -> None:
    """Today's code takes the recorded path, for every ending and every kind of failure."""
    await replayer.replay_workflow(history)


async def test_a_history_that_took_another_path_does_not_replay(replayer: Replayer) -> None:
    """The gate can fail: a fallback whose first failure is changed to one that is retried takes another path."""
    with pytest.raises(NondeterminismError):
        await replayer.replay_workflow(WorkflowHistory.from_json("changed", _with_another_first_failure()))


def _with_another_first_failure() -> str:
    """In the fallback, insufficient_quota, which falls over at once, becomes a rate limit, which waits on a timer."""
    path = next(path for path in HISTORIES if path.stem.endswith("-fallback"))
    events = json.loads(path.read_text())
    failed = next(event for event in events["events"] if "activityTaskFailedEventAttributes" in event)
    info = failed["activityTaskFailedEventAttributes"]["failure"]["applicationFailureInfo"]
    [payload] = info["details"]["payloads"]
    facts = base64.b64decode(payload["data"]).decode().replace("insufficient_quota", "rate_limit_exceeded")
    payload["data"] = base64.b64encode(facts.encode()).decode()
    return json.dumps(events)


def test_each_scene_has_a_saved_history() -> None:
    """Every scene of the recorder has its file."""
    from tests.support.record_histories import CURRENT, SCENES

    assert {f"v{CURRENT}-{name}" for name in SCENES} <= {path.stem for path in HISTORIES}


@pytest.mark.parametrize(
    ("field", "words"),
    [("category", Category), ("decision", Action), ("LLMOutcome", CallOutcome), ("rule", RULES_OF_DECISIONS)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_kind_of_failure_and_each_way_on_occurs_in_a_saved_history(field: str, words: Collection[str]) -> None:
    """A category, decision, outcome or rule that is in no history could break unseen."""
    assert set(words) <= {word for path in HISTORIES for word in _said(path, field)}


def test_each_ending_occurs_in_a_saved_history() -> None:
    """Answered, each of the workflow's own errors, cancelled, terminated, and continued in another run."""
    endings = {_ending(json.loads(path.read_text())["events"][-1]) for path in HISTORIES}
    assert endings == {*CALL_ENDINGS, "answered", "cancelled", "terminated", "continued"}


def _said(path: Path, field: str) -> Iterator[str]:
    """The values of a field in all payloads of a history; a search attribute's value is its payload."""
    text = path.read_text()
    for data in re.findall(r'"data": ?"([A-Za-z0-9+/=]+)"', text):
        yield from re.findall(rf'"{field}":"([^"]+)"', base64.b64decode(data).decode())
    for data in re.findall(rf'"{field}": ?{{[^}}]*}}, ?"data": ?"([A-Za-z0-9+/=]+)"', re.sub(r"\s+", " ", text)):
        yield json.loads(base64.b64decode(data))


def _ending(event: dict) -> str:
    match event:
        case {"workflowExecutionFailedEventAttributes": {"failure": {"applicationFailureInfo": {"type": kind}}}}:
            return kind
        case {"workflowExecutionCompletedEventAttributes": _}:
            return "answered"
        case {"workflowExecutionCanceledEventAttributes": _}:
            return "cancelled"
        case {"workflowExecutionTerminatedEventAttributes": _}:
            return "terminated"
        case {"workflowExecutionContinuedAsNewEventAttributes": _}:
            return "continued"
    return event["eventType"]


class Changed(LLMCall):
    """Gives a changed workflow its `run`: Temporal wants one that the subclass defines itself."""

    @workflow.run
    async def run(self, request: RawValue, prompt: RawValue) -> LLMResult:
        return await LLMCall.run(self, request, prompt)


async def _without_waiting(self: LLMCall, wait: Wait) -> None:
    self._ledger.waits((wait.ends - workflow.now()).total_seconds())


async def _for_twice_as_long(self: LLMCall, wait: Wait) -> None:
    await LLMCall._wait(self, wait.model_copy(update={"ends": wait.ends + (wait.ends - workflow.now())}))


async def _after_a_moment(self: LLMCall, resume: str | None) -> Answer | FailureFacts | None:
    await workflow.sleep(1)
    return await LLMCall._attempt(self, resume)


def _leniently(self: LLMCall, facts: FailureFacts) -> Decision:
    return LLMCall._decide(self, facts.model_copy(update={"http_status": 503}))


def _silently(self: LLMCall, *_: object, **__: object) -> None:
    pass


def changed(**methods: Callable) -> type:
    """The workflow with some of its methods replaced."""
    return workflow.defn(name=WORKFLOW)(type("Changed", (LLMCall,), {**methods, "run": Changed.run}))


async def replayed(workflow_class: type) -> Report:
    """The report on all saved histories, replayed by other code."""
    return await replay(from_files([FOLDER]), pydantic_data_converter, workflow_class)


@pytest.mark.parametrize(
    "methods",
    [{"_wait": _without_waiting}, {"_attempt": _after_a_moment}, {"_decide": _leniently}, {"_show": _silently}],
    ids=["a wait left out", "a timer more", "another decision", "no search attributes"],
)
async def test_the_gate_stops_code_that_takes_another_path(methods: dict[str, Callable]) -> None:
    """With other commands than the recorded ones some saved history does not replay."""
    report = await replayed(changed(**methods))
    assert report.broken
    assert all("ondeterminism" in (call.fault or "") for call in report.broken)


@pytest.mark.parametrize(
    "methods",
    [{}, {"_wait": _for_twice_as_long}, {"_doing": _silently}],
    ids=["nothing", "longer waits", "other words in the UI"],
)
async def test_the_gate_lets_through_what_may_change_freely(methods: dict[str, Callable]) -> None:
    """How long a timer runs and what the UI shows do not matter to a replay."""
    report = await replayed(changed(**methods))
    assert len(report.calls) == len(HISTORIES)
    assert not report.broken


async def test_the_command_tells_which_calls_would_be_stuck(tmp_path: Path) -> None:
    """A line for each call and a status for scripts; files that are not a call's history are named too."""
    (tmp_path / "good.json").write_text((FOLDER / "v1-retry.json").read_text())
    done = await workers("replay", str(tmp_path))
    assert (done.status, done.out) == (0, "good: replays\n1 of 1 calls replay with this code\n")
    (tmp_path / "stuck.json").write_text(_with_another_first_failure())
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "other.json").write_text((FOLDER / "v1-success.json").read_text().replace('"LLMCall"', '"Other"'))
    done = await workers("replay", str(tmp_path))
    assert done.status == 1
    assert "stuck: NondeterminismError: " in done.out
    assert "1 of 2 calls replay with this code" in done.out
    assert f"not read: {tmp_path / 'bad.json'}: no history" in done.out
    assert "not read: other: is a Other, not a LLMCall" in done.out
    done = await workers("replay", str(tmp_path), "--json")
    assert done.status == 1
    assert [call["call_id"] for call in done.json["calls"] if call["fault"]] == ["stuck"]
    assert len(done.json["unreadable"]) == 2


async def test_the_command_asks_the_server_where_no_file_is_named(on_server: SetStage) -> None:
    """An upgrade meets running calls; a server that refuses the query has its own exit status."""
    async with on_server(http_error(429, retry_after_s=30.0)) as stage:
        handle = await stage.dispatcher.submit("openai/gpt-4o-mini", "Name a prime.")
        query = f"ExecutionStatus = 'Running' AND WorkflowId = '{handle.call_id}'"
        async with asyncio.timeout(30):
            while (await handle.status()).next_attempt_at is None or not (
                await stage.client.count_workflows(query)
            ).count:
                await asyncio.sleep(0.1)
        done = await workers("replay", "--query", query, **server(stage.client))
        await handle.cancel()
        refused = await workers("replay", "--query", "Nonsense = 1", **server(stage.client))
    assert (done.status, done.out) == (0, f"{handle.call_id}: replays\n1 of 1 calls replay with this code\n")
    assert refused.status == 2
    assert "Nonsense" in refused.err


async def workers(*arguments: str, **environment: str) -> Ended:
    """`python -m workers` to its end."""
    return await run(*arguments, program=("-m", "workers"), **environment)
