"""Saved histories replay: what an upgrade must not break is every call that is running."""

import base64
import json
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

from tests.conftest import workflow_runner
from workflows.llm_call import LLMCall

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.json"))


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


def test_each_ending_and_each_way_on_has_a_saved_history() -> None:
    """Every scene of the recorder was recorded."""
    from tests.record_histories import CURRENT, SCENES

    assert {f"v{CURRENT}-{name}" for name in SCENES} <= {path.stem for path in HISTORIES}
