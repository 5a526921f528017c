"""The verdict on a run: a program of its own that takes nobody's word.

It reads the evidence (see `evidence.py`), applies the rules below, writes the verdict as JSON and exits with 0 when all
rules hold. A rule also fails when the run gave it nothing to judge: a demo that killed nothing has shown nothing.
"""

import argparse
import asyncio
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

from pydantic import BaseModel
from temporalio.client import Client

from examples.demo import script
from examples.demo.evidence import Case, History, Kill, Request, gather

CLOCK_SLACK_S: Final = 0.05
"""How far two clocks may be apart: the providers' journals, Temporal's events and the director's notes."""


class Rule(BaseModel):
    """A rule and whether it held."""

    rule: str
    held: bool
    found: list[str]
    """What was found: the faults, or what shows that the rule was put to the test."""


class Verdict(BaseModel):
    """What the checker writes."""

    passed: bool
    calls: int
    requests: int
    rules: list[Rule]


def judge(case: Case) -> Verdict:
    """Apply all rules."""
    rules = [
        _no_faults("no call lost: each ended with an answer", _lost(case)),
        _no_faults("no call asked again after its answer was in history", _asked_again(case)),
        _no_faults("no request without an attempt in a call's history", _unaccounted(case)),
        _no_faults("every Retry-After was kept", _too_early(case)),
        _some_shown("a provider's Retry-After was put to the test", _waits(case)),
        _some_shown("the worker was killed while a request was open", _worker_kills(case)),
        _some_shown("the job was killed between its calls' ends", _job_kills(case)),
    ]
    passed = all(rule.held for rule in rules)
    return Verdict(passed=passed, calls=len(case.histories), requests=len(case.requests), rules=rules)


def _no_faults(rule: str, faults: Iterator[str]) -> Rule:
    found = list(faults)
    return Rule(rule=rule, held=not found, found=found)


def _some_shown(rule: str, cases: Iterator[str]) -> Rule:
    found = list(cases)
    return Rule(rule=rule, held=bool(found), found=found)


def _lost(case: Case) -> Iterator[str]:
    histories = {history.call_id: history for history in case.histories}
    for call_id in case.expected:
        history = histories.get(call_id)
        if history is None:
            yield f"{call_id} does not exist"
        elif not history.completed or _answered_at(history) is None:
            yield f"{call_id} has no answer"


def _asked_again(case: Case) -> Iterator[str]:
    for history in case.histories:
        answers = sum(one.ending == "completed" for one in history.tries)
        if answers > 1:
            yield f"{history.call_id} was answered {answers} times"
        answered_at = _answered_at(history)
        for request in _requests(case, history.call_id):
            if answered_at is not None and request.started_at > answered_at + CLOCK_SLACK_S:
                late = request.started_at - answered_at
                yield f"{history.call_id} asked {request.model} {late:.2f} s after its answer was in history"


def _unaccounted(case: Case) -> Iterator[str]:
    known = {history.call_id for history in case.histories}
    for request in case.requests:
        if request.call_id not in known:
            yield f"a request to {request.model} belongs to no call"
    for history in case.histories:
        requests, started = _requests(case, history.call_id), sum(one.started_at is not None for one in history.tries)
        if len(requests) > started:
            yield f"{history.call_id} made {len(requests)} requests in {started} attempts"


def _retries(case: Case) -> Iterator[tuple[Request, Request]]:
    """Requests whose refusal named a wait, each with the next one of its call to the same model."""
    for history in case.histories:
        for refused, following in pairwise(_requests(case, history.call_id)):
            same = (refused.provider, refused.model) == (following.provider, following.model)
            if same and refused.status >= 400 and refused.retry_after:
                yield refused, following


def _too_early(case: Case) -> Iterator[str]:
    for refused, following in _retries(case):
        waited = following.started_at - refused.ended_at
        if waited < (refused.retry_after or 0) - CLOCK_SLACK_S:
            yield f"{refused.call_id} waited {waited:.2f} s where {refused.model} asked for {refused.retry_after:g} s"


def _waits(case: Case) -> Iterator[str]:
    for refused, following in _retries(case):
        waited = following.started_at - refused.ended_at
        yield f"{refused.call_id} waited {waited:.2f} s; {refused.model} asked for {refused.retry_after:g} s"


def _worker_kills(case: Case) -> Iterator[str]:
    """Kills that the journal and the history both show: a request open at the moment, and its attempt lost."""
    for kill in _kills(case, "worker"):
        for history in case.histories:
            if _lost_an_attempt(history, kill) and any(_open(one, kill) for one in _requests(case, history.call_id)):
                yield f"pid {kill.pid}, with {history.call_id} at its provider"


def _lost_an_attempt(history: History, kill: Kill) -> bool:
    return any(
        one.heartbeat_lost and one.started_at is not None and one.started_at < kill.at < (one.ended_at or 0)
        for one in history.tries
    )


def _open(request: Request, kill: Kill) -> bool:
    return request.started_at < kill.at < request.ended_at


def _job_kills(case: Case) -> Iterator[str]:
    """Kills after which the job's restart found calls of both kinds: with an answer, and still running."""
    for kill in _kills(case, "job"):
        ends = [_answered_at(history) for history in case.histories if _begun(history, kill)]
        answered = sum(end is not None and end < kill.at for end in ends)
        if 0 < answered < len(ends):
            yield f"pid {kill.pid}, with {answered} calls answered and {len(ends) - answered} under way"


def _begun(history: History, kill: Kill) -> bool:
    return any(one.started_at is not None and one.started_at < kill.at for one in history.tries)


def _kills(case: Case, what: str) -> list[Kill]:
    return [kill for kill in case.kills if kill.what == what]


def _requests(case: Case, call_id: str) -> list[Request]:
    return [request for request in case.requests if request.call_id == call_id]


def _answered_at(history: History) -> float | None:
    return next((one.ended_at for one in history.tries if one.ending == "completed"), None)


async def check(run: str, providers: list[str], kills: list[Kill]) -> Verdict:
    """Gather the evidence and judge it."""
    client = await Client.connect(os.environ["TEMPORAL_ADDRESS"])
    expected = [script.call_id(run, step.number) for step in script.STEPS]
    return judge(await gather(expected, providers, kills, client))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.demo.checker", description=__doc__)
    parser.add_argument("--run", required=True, help="the run's name")
    parser.add_argument("--provider", action="append", required=True, help="address of a simulated provider")
    parser.add_argument(
        "--kills", type=Path, required=True, help="the director's list of kills, one JSON object a line"
    )
    parser.add_argument("--out", type=Path, required=True, help="file for the verdict")
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    killed = [Kill.model_validate_json(line) for line in given.kills.read_text().splitlines()]
    verdict = asyncio.run(check(given.run, given.provider, killed))
    given.out.write_text(verdict.model_dump_json(indent=2) + "\n")
    os._exit(0 if verdict.passed else 1)  # the SDK's threads may abort an interpreter that tears itself down
