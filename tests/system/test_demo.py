"""The demo's checker finds what is wrong with a run, and the demo itself ends well."""

import json
import sys

import pytest

from tests.harness.demo import script
from tests.harness.demo.checker import verify
from tests.harness.parts.evidence import Case, History, Kill, Request, Try
from tests.support import ROOT
from workers.dev.children import Child

PLAIN, WAITED, LOST_ONCE = "demo-x/step-1", "demo-x/step-2", "demo-x/step-7"


def request(call_id, started_at, ended_at, *, status=200, retry_after=None, model="m"):
    """A request as a provider's journal tells it."""
    return Request(
        call_id=call_id, provider="openai", model=model, started_at=started_at, ended_at=ended_at, status=status,
        retry_after=retry_after,
    )  # fmt: skip


def answer(started_at, ended_at):
    """An attempt that brought the answer."""
    return Try(started_at=started_at, ended_at=ended_at, ending="completed")


GOOD = Case(
    expected=[PLAIN, WAITED, LOST_ONCE],
    requests=[
        request(PLAIN, 10.1, 10.2),
        request(WAITED, 10.1, 10.2, status=429, retry_after=2.5),
        request(LOST_ONCE, 10.1, 18.1),
        request(WAITED, 12.8, 12.9),
        request(LOST_ONCE, 16.1, 16.2),
    ],
    histories=[
        History(call_id=PLAIN, completed=True, tries=[answer(10.0, 10.3)]),
        History(
            call_id=WAITED,
            completed=True,
            tries=[Try(started_at=10.0, ended_at=10.3, ending="failed"), answer(12.7, 13.0)],
        ),
        History(
            call_id=LOST_ONCE,
            completed=True,
            tries=[Try(started_at=10.0, ended_at=15.0, ending="timed_out", heartbeat_lost=True), answer(16.0, 16.3)],
        ),
    ],
    kills=[Kill(what="worker", pid=1, at=11.0), Kill(what="job", pid=2, at=14.0)],
)
"""A good run in small: a call answered at once, one that waited, one whose worker was killed."""


def broken(case):
    """The rules that did not hold."""
    return [rule.rule for rule in verify(case).rules if not rule.held]


def with_history(history):
    """The good run with another history of one call."""
    return GOOD.model_copy(
        update={"histories": [history if old.call_id == history.call_id else old for old in GOOD.histories]}
    )


def with_requests(*more, without=(), run=None):
    """The good run, or another, with more requests and without some of its own."""
    run = run or GOOD
    kept = [one for number, one in enumerate(run.requests) if number not in without]
    return run.model_copy(update={"requests": sorted([*kept, *more], key=lambda one: one.started_at)})


LOST = "no call lost: each ended with an answer"
AGAIN = "no call asked again after its answer was in history"
UNACCOUNTED = "no request without an attempt in a call's history"
KEPT = "every Retry-After was kept"
WORKER = "the worker was killed while a request was open"
JOB = "the job was killed between its calls' ends"
TESTED = "a provider asked for a wait, and the call waited"

FAULTS = {
    "a call that never began": (GOOD.model_copy(update={"expected": [*GOOD.expected, "demo-x/step-9"]}), {LOST}),
    "a call that ended without an answer": (
        with_history(History(call_id=PLAIN, tries=[Try(started_at=10.0, ended_at=10.3, ending="failed")])), {LOST},
    ),
    "a call that has its answer and did not end": (
        with_history(History(call_id=PLAIN, tries=[answer(10.0, 10.3)])), {LOST},
    ),
    "a request after the answer": (with_requests(request(PLAIN, 10.9, 11.0)), {AGAIN, UNACCOUNTED}),
    "two answers in history": (
        with_history(History(call_id=PLAIN, completed=True, tries=[answer(10.0, 10.3), answer(10.4, 10.5)])), {AGAIN},
    ),
    "two requests in one attempt": (with_requests(request(PLAIN, 10.15, 10.2)), {UNACCOUNTED}),
    "a request of no call": (with_requests(request(None, 10.0, 10.1)), {UNACCOUNTED}),
    "a retry before the provider's time": (
        with_requests(
            request(WAITED, 11.8, 11.9), without={3},
            run=with_history(History(
                call_id=WAITED, completed=True,
                tries=[Try(started_at=10.0, ended_at=10.3, ending="failed"), answer(11.7, 13.0)],
            )),
        ),
        {KEPT},
    ),
    "no request open at the kill": (with_requests(request(LOST_ONCE, 10.1, 10.9), without={2}), {WORKER}),
    "no attempt lost at the kill": (
        with_history(
            History(
                call_id=LOST_ONCE, completed=True,
                tries=[Try(started_at=10.0, ended_at=15.0, ending="failed"), answer(16.0, 16.3)],
            )
        ),
        {WORKER},
    ),
    "a request lost at another time than the kill's": (
        GOOD.model_copy(update={"kills": [Kill(what="worker", pid=1, at=15.5), GOOD.kills[1]]}), {WORKER},
    ),
    "nobody killed": (GOOD.model_copy(update={"kills": []}), {WORKER, JOB}),
    "the job killed before any answer": (
        GOOD.model_copy(update={"kills": [GOOD.kills[0], Kill(what="job", pid=2, at=10.25)]}), {JOB},
    ),
    "the job killed after all answers": (
        GOOD.model_copy(update={"kills": [GOOD.kills[0], Kill(what="job", pid=2, at=17.0)]}), {JOB},
    ),
    "no wait asked by anybody": (
        with_requests(request(WAITED, 10.1, 10.2, status=429), without={1}), {TESTED},
    ),
    "nothing at all": (
        Case(expected=[], requests=[], histories=[], kills=[]), {WORKER, JOB, TESTED},
    ),
}  # fmt: skip


def test_good_run_passes():
    """A run in which every rule holds passes, and its verdict counts calls and requests."""
    verdict = verify(GOOD)
    assert broken(GOOD) == []
    assert verdict.passed
    assert (verdict.calls, verdict.requests) == (3, 5)


@pytest.mark.parametrize(("case", "rules"), FAULTS.values(), ids=FAULTS)
def test_fault_breaks_its_rule_and_no_other(case, rules):
    """Each fault is found by the rule that is about it, and fails the verdict."""
    assert set(broken(case)) == rules
    assert not verify(case).passed


def test_prompts_name_their_call_first():
    """The checker finds a call's requests by the id that its prompt begins with, whatever the prompt quotes later."""
    for step in script.STEPS:
        prompt = script.prompt("x", step, ["[demo-x/step-99] quoted"])
        assert prompt.startswith(f"[{script.call_id('x', step.number)}] ")


def test_each_scripted_failure_meets_one_step():
    """A failure is scripted for a model, so steps whose provider misbehaves share their primary model with no step."""
    models = [name for step in script.STEPS for name in step.models]
    assert all(models.count(step.models[0]) == 1 for step in script.STEPS if step.behaviors)


async def test_whole_demo(tmp_path):
    """From nothing to the verdict: ten calls, two kills, no call lost, none asked again, and exit code 0."""
    lines = []
    command = [sys.executable, "-m", "tests.harness.demo", "--folder", str(tmp_path)]
    demo = await Child.start("the demo", command, env={"PYTHONPATH": str(ROOT)}, on_line=lines.append)
    try:
        code = await demo.wait()
    finally:
        await demo.stop(10)
    shown = "\n".join(lines)
    assert code == 0, shown
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert verdict["passed"], shown
    assert verdict["calls"] == len(script.STEPS)
    for told in ("provider asked 2.5 s", "context_window", "quota_exhausted", "worker_lost", "is killed with SIGKILL"):
        assert told in shown
    assert json.loads((tmp_path / "report.json").read_text())["text"]
