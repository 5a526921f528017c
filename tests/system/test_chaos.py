"""The chaos run's checker finds what is wrong with a run, and a short run ends well."""

import json
import sys
from collections import Counter

import pytest

from tests.harness.chaos.checker import Expectations, verify
from tests.harness.chaos.size import SHORT
from tests.harness.parts.evidence import Case, Decider, Entry, History, Kill, Request, Try
from tests.support import ROOT
from workers.dev.children import Child

PLAIN, LOST_ONCE, TROUBLED, REFUSED = "chaos-x/call-0", "chaos-x/call-1", "chaos-x/call-2", "chaos-x/call-8"
KILLED_AT, SERVER_AT, JOB_AT = 11.0, 12.0, 13.0
KILLED, OTHER = 71, 72


def request(call_id, started_at, ended_at, **fields):
    """A request by the provider's journal: served, unless `fields` say otherwise."""
    return Request(**{
        "call_id": call_id, "provider": "openai", "model": "m", "started_at": started_at, "ended_at": ended_at,
        "status": 200, **fields,
    })  # fmt: skip


def attempt(started_at, ended_at, ending="completed", worker=OTHER, **fields):
    """An attempt by Temporal's events."""
    return Try(model="m", worker=worker, started_at=started_at, ended_at=ended_at, ending=ending, **fields)


def entry(outcome, category=None, spec_index=0):
    """An attempt by the ledger."""
    return Entry(spec_index=spec_index, outcome=outcome, category=category)


ANSWERED, FAILED, LOST = entry("answered"), entry("failed", "server_error"), entry("unknown", "worker_lost")
SLOW = entry("unknown", "timeout")
FAULTY = [
    {"status": 400, "fault": "scenario:400"},
    {"status": 403, "fault": "scenario:403"},
    {"status": 500, "fault": "scenario:500"},
    {"status": 529, "fault": "scenario:529"},
    {"completed": False, "fault": "stream:truncate@2"},
    {"completed": False, "fault": "stream:disconnect@2"},
    {"completed": False, "fault": "stream:stall@2"},
    {"status": 429, "fault": "scenario:429", "retry_after": 0.5},
]
"""What the provider does to one call, second by second from 20 on; then it is slower than the attempt, then answers."""

PLAINLY = History(call_id=PLAIN, completed=True, tries=[attempt(10.0, 10.3)], ledger=[ANSWERED])
LOSING = History(
    call_id=LOST_ONCE, completed=True, ledger=[LOST, ANSWERED],
    tries=[attempt(10.0, 15.0, "timed_out", KILLED, heartbeat_lost=True), attempt(18.0, 19.0)],
    deciders=[Decider(worker=KILLED, at=10.0), Decider(worker=OTHER, at=17.0)], decisions_s=[0.0, 0.0, 0.0],
)  # fmt: skip
IN_TROUBLE = History(
    call_id=TROUBLED, completed=True, ledger=[*[FAILED] * len(FAULTY), SLOW, ANSWERED],
    tries=[
        *(attempt(20.0 + n, 20.4 + n, "failed") for n in range(len(FAULTY))),
        attempt(30.0, 36.1, "failed"), attempt(40.0, 41.0),
    ],
)  # fmt: skip
REJECTED = History(
    call_id=REFUSED, error="RequestRejectedError", tries=[attempt(10.0, 10.3, "failed")], ledger=[FAILED]
)
GOOD = Case(
    expected=[PLAIN, LOST_ONCE, TROUBLED, REFUSED],
    requests=[
        request(PLAIN, 10.1, 10.2),
        request(LOST_ONCE, 10.1, 14.1),
        request(LOST_ONCE, 18.1, 18.9),
        *(request(TROUBLED, 20.1 + n, 20.3 + n, **fault) for n, fault in enumerate(FAULTY)),
        request(TROUBLED, 30.1, 38.1),
        request(TROUBLED, 40.1, 40.9),
        request(REFUSED, 10.1, 10.2, status=400),
    ],
    histories=[PLAINLY, LOSING, IN_TROUBLE, REJECTED],
    kills=[
        Kill(what="worker", pid=KILLED, at=KILLED_AT),
        Kill(what="server", pid=3, at=SERVER_AT, back_at=12.5),
        Kill(what="job", pid=4, at=JOB_AT),
    ],
)
"""A good run in small: an answer at once, a lost worker, every fault, a rejection."""
EXPECTED = Expectations(
    endings={PLAIN: "answered", LOST_ONCE: "answered", TROUBLED: "answered", REFUSED: "rejected"},
    heartbeat_timeout_s=4.0, least_kills=1,
)  # fmt: skip

GONE = "no call lost: each"
SCRIPTED = "each call ended as the script"
AGAIN = "no call asked again"
ACCOUNTED = "each request belongs to an attempt"
EXPLAINED = "each answer that was not used"
TOLD = "the ledgers have each attempt"
BOUNDED = "no call lost more than 3"
SOON = "after a kill the next attempt"
KEPT = "every Retry-After was kept"
WORKERS = "at least 1 workers were killed"
SERVER = "the server was killed"
JOB = "the job was killed"
FAULTS = "the provider failed in each way"
WAITED = "a provider asked for a wait"


def broken(case):
    """The beginnings of the rules that did not hold."""
    known = (GONE, SCRIPTED, AGAIN, ACCOUNTED, EXPLAINED, TOLD, BOUNDED, SOON, KEPT)
    tested = (WORKERS, SERVER, JOB, FAULTS, WAITED)
    names = [rule.rule for rule in verify(case, EXPECTED).rules if not rule.held]
    return {next(start for start in (*known, *tested) if name.startswith(start)) for name in names}


def with_history(old, **changes):
    """The good run with another history of one call."""
    new = old.model_copy(update=changes)
    return GOOD.model_copy(update={"histories": [new if one is old else one for one in GOOD.histories]})


def with_requests(*more, without=lambda _: False):
    """The good run with more requests, and without some of its own."""
    kept = [one for one in GOOD.requests if not without(one)]
    return GOOD.model_copy(update={"requests": sorted([*kept, *more], key=lambda one: one.started_at)})


def with_kills(*kills):
    """The good run with other kills."""
    return GOOD.model_copy(update={"kills": list(kills)})


ENDLESS = [attempt(10.0 + n, 10.5 + n, "timed_out") for n in range(4)]
CASES = {
    "a call that does not exist": (GOOD.model_copy(update={"expected": [*GOOD.expected, "chaos-x/call-9"]}), {GONE}),
    "a call that has not ended": (with_history(PLAINLY, completed=False), {GONE, SCRIPTED}),
    "a call with another ending": (with_history(REJECTED, error="DeadlineExceededError"), {SCRIPTED}),
    "a request after the answer": (with_requests(request(PLAIN, 10.9, 11.0)), {AGAIN, ACCOUNTED}),
    "two requests in one attempt": (with_requests(request(LOST_ONCE, 10.2, 14.0)), {ACCOUNTED}),
    "a request before any attempt": (with_requests(request(LOST_ONCE, 9.0, 9.1)), {ACCOUNTED, EXPLAINED}),
    "a request to another model": (with_requests(request(LOST_ONCE, 10.2, 14.0, model="n")), {ACCOUNTED, EXPLAINED}),
    "a request of no call": (with_requests(request(None, 10.0, 10.1)), {ACCOUNTED}),
    "an answer that the ledger calls a failure": (
        with_history(IN_TROUBLE, ledger=[*[FAILED] * (len(FAULTY) + 1), ANSWERED]), {EXPLAINED},
    ),
    "a lost attempt that the ledger calls a failure": (
        with_history(LOSING, ledger=[FAILED, ANSWERED]), {EXPLAINED, TOLD},
    ),
    "an attempt that the ledger leaves out": (with_history(REJECTED, ledger=[]), {TOLD}),
    "a model that is asked after three losses": (
        with_history(REJECTED, tries=ENDLESS, ledger=[LOST] * 4), {BOUNDED},
    ),
    "a call that went on too late": (
        with_history(LOSING, tries=[LOSING.tries[0], attempt(20.1, 21.0)]), {ACCOUNTED, SOON},
    ),
    "a retry before the provider's time": (
        with_requests(without=lambda one: one.status == 429).model_copy(
            update={"requests": [
                one.model_copy(update={"ended_at": 27.0, "retry_after": 8.0}) if one.status == 429 else one
                for one in GOOD.requests
            ]}
        ),
        {KEPT},
    ),
    "nobody killed": (with_kills(), {WORKERS, SERVER, JOB}),
    "a worker killed before the request": (
        with_kills(Kill(what="worker", pid=KILLED, at=10.05), *GOOD.kills[1:]), {WORKERS},
    ),
    "another worker killed": (with_kills(Kill(what="worker", pid=OTHER, at=KILLED_AT), *GOOD.kills[1:]), {WORKERS}),
    "a server that did not come back": (
        with_kills(GOOD.kills[0], Kill(what="server", pid=3, at=SERVER_AT), GOOD.kills[2]), {SERVER},
    ),
    "a server killed while nobody asked": (
        with_kills(GOOD.kills[0], Kill(what="server", pid=3, at=50.0, back_at=51.0), GOOD.kills[2]), {SERVER},
    ),
    "the job killed before any answer": (
        with_kills(*GOOD.kills[:2], Kill(what="job", pid=4, at=10.25)), {JOB},
    ),
    "two faults that the provider never made": (
        with_requests(without=lambda one: one.status in (500, 529)), {FAULTS},
    ),
}  # fmt: skip


def test_a_good_run_passes_and_is_counted():
    """Every rule holds, and the figures are those of the evidence."""
    verdict = verify(GOOD, EXPECTED)
    assert broken(GOOD) == set()
    assert verdict.passed
    assert (verdict.calls, verdict.calls_lost, verdict.requests, verdict.attempts) == (4, 0, 14, 14)
    assert verdict.calls_ended == {"answered": 3, "rejected": 1}
    assert verdict.attempts_unknown == {"worker_lost": 1, "timeout": 1}
    assert (verdict.answers_served, verdict.answers_paid_again) == (5, {"worker_lost": 1, "timeout": 1})
    assert [(one.call_id, one.attempt, one.why) for one in verdict.paid_again] == [
        (LOST_ONCE, 1, "worker_lost"), (TROUBLED, 9, "timeout"),
    ]  # fmt: skip
    assert verdict.kills.model_dump() == {"worker": 1, "worker_with_requests_open": 1, "server": 1, "job": 1}
    assert (verdict.resumed.longest_after_kill_s, verdict.resumed.longest_after_notice_s) == (7.0, 3.0)


@pytest.mark.parametrize(("case", "rules"), CASES.values(), ids=CASES)
def test_a_fault_breaks_its_rules_and_no_other(case, rules):
    """Each fault is found by the rules that are about it, and fails the verdict."""
    assert broken(case) == rules
    assert not verify(case, EXPECTED).passed


def test_a_call_need_not_keep_a_wait_that_it_was_not_told():
    """A refusal does not count if its worker was killed before it could report it."""
    unheard = request(LOST_ONCE, 10.1, 14.1, status=429, retry_after=60.0)
    assert (
        broken(with_requests(unheard, without=lambda one: (one.call_id, one.started_at) == (LOST_ONCE, 10.1))) == set()
    )


def test_a_request_belongs_to_its_attempt_though_the_next_one_follows_at_once():
    """A wait may be shorter than the clocks are apart."""
    quick = with_history(REJECTED, tries=[attempt(10.0, 10.11, "failed"), attempt(10.13, 10.3, "failed")],
                         ledger=[FAILED] * 2)  # fmt: skip
    both = [request(REFUSED, 10.1, 10.105, status=400), request(REFUSED, 10.125, 10.2, status=400)]
    others = [one for one in GOOD.requests if one.call_id != REFUSED]
    assert broken(quick.model_copy(update={"requests": [*others, *both]})) == set()


@pytest.mark.parametrize(
    "hit",
    [
        {"kills": [*GOOD.kills, Kill(what="worker", pid=OTHER, at=17.5)]},
        {"kills": [GOOD.kills[0], Kill(what="server", pid=3, at=SERVER_AT, back_at=16.0), GOOD.kills[2]]},
        {"histories": [PLAINLY, LOSING.model_copy(update={"stalled_at": [17.0]}), IN_TROUBLE, REJECTED]},
    ],
    ids=["its next worker", "the server", "a worker that had begun to decide"],
)
def test_a_call_that_was_hit_again_waits_anew(hit):
    """The five seconds count from the last kill that concerned the call itself."""
    late = LOSING.model_copy(update={"tries": [LOSING.tries[0], attempt(20.5, 21.0)]})
    case = GOOD.model_copy(update=hit)
    histories = [late.model_copy(update={"stalled_at": one.stalled_at}) if one.call_id == LOST_ONCE else one
                 for one in case.histories]  # fmt: skip
    requests = [
        one.model_copy(update={"started_at": 20.6, "ended_at": 20.9}) if one.started_at == 18.1 else one
        for one in case.requests
    ]
    assert broken(case.model_copy(update={"histories": histories, "requests": requests})) == set()


def test_a_busy_machine_is_allowed_what_its_decisions_take():
    """Five seconds are for a machine that decides at once; what decisions took in this very run comes on top."""
    assert verify(GOOD, EXPECTED).resumed.allowed_after_notice_s == 5.0
    busy = with_history(PLAINLY, decisions_s=[1.0] * 100)
    assert verify(busy, EXPECTED).resumed.allowed_after_notice_s == pytest.approx(8.0, abs=0.1)


@pytest.mark.timeout(240)
async def test_a_short_run(tmp_path):
    """40 calls, two workers, the server and the job killed: no call lost, every rule kept, exit code 0."""
    lines = []
    command = [sys.executable, "-m", "tests.harness.chaos", "--short", "--folder", str(tmp_path)]
    chaos = await Child.start("the chaos run", command, env={"PYTHONPATH": str(ROOT)}, on_line=lines.append)
    try:
        code = await chaos.wait()
    finally:
        await chaos.stop(10)
    shown = "\n".join(lines)
    assert code == 0, shown
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert (verdict["passed"], verdict["calls"], verdict["calls_lost"]) == (True, SHORT.calls, 0), shown
    reported = json.loads((tmp_path / "report.json").read_text())
    assert Counter(reported.values()) == verdict["calls_ended"], "the job's results differ from the histories"
