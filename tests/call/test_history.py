"""The ledger that is read from a history equals the workflow's own."""

from datetime import timedelta

import pytest
from temporalio.exceptions import ApplicationError

from durable_llm import AllModelsExhaustedError, DecryptionError, ModelSpec, Policy
from durable_llm.client.history import ledger_from_history
from durable_llm.contract.facts import FailureFacts, LocalFault, Sent
from durable_llm.contract.names import ATTEMPT_FAILED, WORKER_SHUTDOWN
from durable_llm.contract.request import AttemptOrder
from tests.conftest import SetStage
from tests.support.scripted import Step, answer, http_error
from workflows.attempts import HOLD_ALLOWANCE

SPEC = ModelSpec(name="openai/gpt-4o-mini", max_retries=0, timeout=30)
ENDS = Policy(rules={"worker_lost": "fail"}, patience=timedelta(0))


def undecoded(_: AttemptOrder) -> None:
    """What the SDK raises if it cannot decrypt an activity's arguments."""
    raise RuntimeError("Failed decoding arguments") from DecryptionError("encrypted with the key '2026-11'")


FAILURES: dict[str, Step] = {
    "refused": http_error(401, "invalid_api_key", "no such key", request_id="req_1"),
    "rejected": FailureFacts(http_status=200, answer_defect="empty", cost=0.01, request_sent=Sent.YES),
    "followed": FailureFacts(local_fault=LocalFault.TIMEOUT, response_id="resp_1", request_sent=Sent.YES),
    "undecoded": undecoded,
    "cut off": ApplicationError("worker is shutting down", type=WORKER_SHUTDOWN, non_retryable=True),
    "without facts": ApplicationError("of another version", type=ATTEMPT_FAILED, non_retryable=True),
    "facts of another shape": ApplicationError("new", {"http_status": "?"}, type=ATTEMPT_FAILED, non_retryable=True),
    "unforeseen": ValueError("nobody thought of it"),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
async def test_both_ledgers_tell_the_same_of_a_failure(on_server: SetStage, failure: Step) -> None:
    """Both agree on request, cost and text, also if the attempt could not report its facts."""
    async with on_server(failure) as stage:
        handle = await stage.dispatcher.submit(SPEC, "Name a prime.", policy=ENDS)
        with pytest.raises(AllModelsExhaustedError) as raised:
            await handle.result()
        workflow = stage.client.get_workflow_handle(handle.call_id)
        [read] = await ledger_from_history(workflow, stage.client.data_converter)
    [kept] = raised.value.attempts
    for name in ("outcome", "cost", "message", "http_status", "error_code", "request_id", "response_id", "usage"):
        assert getattr(read, name) == getattr(kept, name), name


@pytest.mark.parametrize(
    ("heartbeat", "allowed"), [(timedelta(seconds=60), HOLD_ALLOWANCE), (timedelta(hours=1), timedelta(hours=1))]
)
async def test_an_answer_may_be_held_for_as_long_as_the_heartbeat_timeout(
    on_server: SetStage, heartbeat: timedelta, allowed: timedelta
) -> None:
    """A long heartbeat timeout is for long outages, so no other timeout may end the attempt earlier."""
    async with on_server(answer(), heartbeat_timeout_s=heartbeat.total_seconds()) as stage:
        handle = await stage.dispatcher.submit(SPEC, "Name a prime.")
        await handle.result()
        history = await stage.client.get_workflow_handle(handle.call_id).fetch_history()
    [scheduled] = [
        event.activity_task_scheduled_event_attributes for event in history.events
        if event.HasField("activity_task_scheduled_event_attributes")
    ]  # fmt: skip
    assert scheduled.heartbeat_timeout.ToTimedelta() == heartbeat
    assert scheduled.start_to_close_timeout.ToTimedelta() == timedelta(seconds=30) + allowed
