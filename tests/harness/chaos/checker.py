"""The verdict on a chaos run, by a program that reads only what the provider and Temporal recorded.

It reads the evidence (see `tests/harness/parts/evidence.py`), counts, and applies the rules below. Some rules fail when
the run had no case of what they are about, for example no worker killed while requests were open.
"""

from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from typing import Final

from pydantic import BaseModel
from temporalio.client import Client

from durable_llm import Category, Outcome
from tests.harness.chaos import script
from tests.harness.chaos.figures import (
    RESUMED_WITHIN_S,
    ChaosVerdict,
    counted,
    killed,
    resumed_in_time,
    unknown,
    without_request,
)
from tests.harness.chaos.recovery import Resumption, UnusedAnswer, ending, entry_of, resumptions, unused_answers
from tests.harness.parts import rules
from tests.harness.parts.checker import checker_arguments, run_checker
from tests.harness.parts.evidence import Case, collect
from tests.harness.parts.rules import Rule, at_least, no_faults

LOST_PER_MODEL = 3
"""Attempts that a call may lose with its workers at one model: the first, and two more."""


class Expectations(BaseModel):
    """What the checker is told about a run."""

    endings: dict[str, str]
    """How each call must end, by its id."""
    heartbeat_timeout_s: float
    least_kills: int


def verify(case: Case, expected: Expectations) -> ChaosVerdict:
    """Apply all rules and count."""
    resumed, unused = list(resumptions(case, expected.heartbeat_timeout_s)), list(unused_answers(case))
    killed_busy = list(_killed_busy(case))
    soon = resumed_in_time(case, resumed)
    late = _late(resumed, soon.allowed_after_notice_s)
    found = [*_guarantees(case, expected, unused, late), *_coverage(case, expected, killed_busy)]
    again = [one for one in unused if one.again]
    return ChaosVerdict(
        passed=all(rule.held for rule in found),
        calls=len(case.expected),
        requests=len(case.requests),
        rules=found,
        calls_lost=len(list(_lost(case))),
        calls_ended=counted(map(ending, case.histories)),
        attempts=sum(len(history.tries) for history in case.histories),
        attempts_without_request=without_request(case),
        attempts_unknown=unknown(case),
        answers_served=sum(request.served for request in case.requests),
        answers_paid_again=counted(one.why or "unexplained" for one in again),
        kills=killed(case, len(killed_busy)),
        resumed=soon,
        paid_again=again,
    )


def _guarantees(case: Case, expected: Expectations, unused: list[UnusedAnswer], late: Iterator[str]) -> list[Rule]:
    return [
        no_faults("no call lost: each ended", _lost(case)),
        no_faults("each call ended as the script wants it", _wrong_endings(case, expected)),
        no_faults("no call asked again after its answer was in history", rules.asked_again(case)),
        no_faults("each request belongs to an attempt, and no attempt made two", rules.unexplained_requests(case)),
        no_faults("each answer that was not used is an attempt of unknown outcome in its ledger", _unexplained(unused)),
        no_faults(
            "the ledgers have each attempt of the histories, and each lost one as unknown", _missing_in_ledger(case)
        ),
        no_faults(
            f"no call lost more than {LOST_PER_MODEL} attempts at one model with its workers", _lost_too_often(case)
        ),
        no_faults(
            f"after a kill the next attempt came within the heartbeat timeout ({expected.heartbeat_timeout_s:g} s) "
            f"+ {RESUMED_WITHIN_S:g} s",
            late,
        ),
        no_faults("every Retry-After was kept", rules.too_early(case)),
    ]


LONG_RUN: Final = 100
"""Calls from which every kind of fault must have been met."""


def _coverage(case: Case, expected: Expectations, killed_busy: list[str]) -> list[Rule]:
    least = expected.least_kills
    return [
        at_least(f"at least {least} workers were killed while requests were open", iter(killed_busy), least),
        at_least("the server was killed while requests were open, and came back", _server_kills(case)),
        at_least("the job was killed between its calls' ends", rules.job_kills(case)),
        at_least("the provider failed in each way of the script", _faults(case), _least_kinds(case)),
        at_least("a provider asked for a wait, and the call waited", rules.waits(case)),
    ]


def _lost(case: Case) -> Iterator[str]:
    ended = {history.call_id for history in case.histories if ending(history) is not None}
    yield from (f"{call_id} has not ended" for call_id in case.expected if call_id not in ended)


def _wrong_endings(case: Case, expected: Expectations) -> Iterator[str]:
    for history in case.histories:
        wanted, came = expected.endings.get(history.call_id), ending(history)
        if came != wanted:
            yield f"{history.call_id} ended as {came} instead of {wanted}"


def _unexplained(unused: list[UnusedAnswer]) -> Iterator[str]:
    for one in unused:
        if one.why is None:
            yield f"{one.call_id}: {one.model} served attempt {one.attempt}, whose outcome the ledger does not call unknown"


def _missing_in_ledger(case: Case) -> Iterator[str]:
    for history in case.histories:
        if len(history.ledger) != len(history.tries):
            yield f"{history.call_id} made {len(history.tries)} attempts; its ledger has {len(history.ledger)}"
        for number, one in enumerate(history.tries, 1):
            entry = entry_of(history, number)
            recorded = entry is not None and (entry.outcome, entry.category) == (Outcome.UNKNOWN, Category.WORKER_LOST)
            if one.ending == "timed_out" and not recorded:
                yield f"{history.call_id} lost attempt {number}; its ledger has another outcome"


def _lost_too_often(case: Case) -> Iterator[str]:
    for history in case.histories:
        lost = Counter(entry.spec_index for entry in history.ledger if entry.category == Category.WORKER_LOST)
        yield from (f"{history.call_id} lost {n} at model {index}" for index, n in lost.items() if n > LOST_PER_MODEL)


def _late(resumed: list[Resumption], allowed_s: float) -> Iterator[str]:
    for one in resumed:
        if one.after_notice_s > allowed_s:
            yield (
                f"{one.call_id} lost attempt {one.attempt} and went on {one.after_kill_s:.1f} s after the kill, "
                f"{one.after_notice_s:.1f} s after it could"
            )


def _killed_busy(case: Case) -> Iterator[str]:
    """Kills at which requests were open, by the journal, and whose attempts were lost, by the histories."""
    for kill in rules.kills_of(case, "worker"):
        lost = sum(
            any(rules.open_at(one, kill.at) for one in rules.matched(case, history).get(number, []))
            for history in case.histories
            for number in rules.lost_with(history, kill)
        )
        if lost:
            yield f"pid {kill.pid}, with {lost} requests open"


def _server_kills(case: Case) -> Iterator[str]:
    for kill in rules.kills_of(case, "server"):
        asked = sum(rules.open_at(request, kill.at) for request in case.requests)
        if asked and kill.back_at:
            yield f"pid {kill.pid}, with {asked} requests open, back after {kill.back_at - kill.at:.1f} s"


def _faults(case: Case) -> Iterator[str]:
    met = Counter(_kind(request.fault) for request in case.requests if request.fault)
    slow = sum(request.ended_at - request.started_at > script.TIMEOUT_S for request in case.requests)
    yield from (f"{kind}: {met[kind]}" for kind in sorted(_fault_kinds() & set(met)))
    if slow:
        yield f"slower than the attempt's timeout: {slow}"


def _least_kinds(case: Case) -> int:
    """All of them; in a short run all but one, because the few calls that meet it may lose their workers before."""
    return len(_fault_kinds()) - (1 if len(case.expected) < LONG_RUN else 0)


def _fault_kinds() -> set[str]:
    """What llmock calls the script's faults, and one for slowness, which it does not call a fault."""
    kinds = {"fail": "status", "stream_fault": "kind", "delay": "type"}
    return {str(behavior[kinds[behavior["type"]]]) for behavior in script.behaviors()}


def _kind(fault: str) -> str:
    """The kind in llmock's words: "scenario:429", "stream:truncate@2"."""
    return fault.partition(":")[2].partition("@")[0]


async def check(given: Namespace, client: Client) -> ChaosVerdict:
    """Collect the evidence and apply the rules."""
    endings = {script.call_id(given.run, number): script.plan(number).ends for number in range(given.calls)}
    expected = Expectations(endings=endings, heartbeat_timeout_s=given.heartbeat_timeout, least_kills=given.least_kills)
    return verify(await collect(list(endings), given.provider, given.kills, client), expected)


if __name__ == "__main__":
    parser = checker_arguments()
    parser.add_argument("--calls", type=int, required=True, help="how many calls the job submits")
    parser.add_argument("--heartbeat-timeout", type=float, required=True, help="the workers' setting, seconds")
    parser.add_argument("--least-kills", type=int, required=True, help="workers that must die with requests open")
    run_checker(parser, check)
