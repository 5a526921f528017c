"""Rules for any run, and the verdict that they make up.

A rule of the first kind holds when no fault is found. One of the second kind holds when the run had enough cases of what
it is about: a run without kills says nothing about kills.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from pydantic import BaseModel

from tests.harness.parts.evidence import Case, History, Kill, Request, Try

CLOCK_SLACK_S: Final = 0.05
"""How far two clocks may be apart: the providers' journals, Temporal's events and the list of kills."""


class Rule(BaseModel):
    """A rule and whether it held."""

    rule: str
    held: bool
    found: list[str]
    """The faults, or the cases."""


class Verdict(BaseModel):
    """What a checker writes."""

    passed: bool
    calls: int
    requests: int
    rules: list[Rule]


def no_faults(rule: str, faults: Iterator[str]) -> Rule:
    """A rule that holds when there is no fault."""
    found = list(faults)
    return Rule(rule=rule, held=not found, found=found)


def at_least(rule: str, cases: Iterator[str], least: int = 1) -> Rule:
    """A rule that holds when there are enough cases."""
    found = list(cases)
    return Rule(rule=rule, held=len(found) >= least, found=found)


def asked_again(case: Case) -> Iterator[str]:
    """Answers after an answer, and requests after an answer was in history."""
    for history in case.histories:
        answers = sum(one.ending == "completed" for one in history.tries)
        if answers > 1:
            yield f"{history.call_id} was answered {answers} times"
        for request in requests_of(case, history.call_id):
            if history.answered_at is not None and request.started_at > history.answered_at + CLOCK_SLACK_S:
                late = request.started_at - history.answered_at
                yield f"{history.call_id} asked {request.model} {late:.2f} s after its answer was in history"


def unexplained_requests(case: Case) -> Iterator[str]:
    """Requests of no call or of no attempt, and attempts with more than one."""
    known = {history.call_id for history in case.histories}
    for request in case.requests:
        if request.call_id not in known:
            yield f"a request to {request.model} belongs to no call"
    for history in case.histories:
        for number, requests in matched(case, history).items():
            if number is None:
                yield f"{history.call_id} asked {requests[0].model} without an attempt"
            elif len(requests) > 1:
                yield f"{history.call_id} made {len(requests)} requests in attempt {number}"


def matched(case: Case, history: History) -> dict[int | None, list[Request]]:
    """The call's requests by the attempt that made each; None: no attempt did."""
    found: dict[int | None, list[Request]] = {}
    for request in requests_of(case, history.call_id):
        found.setdefault(_attempt_of(request, history), []).append(request)
    return found


def _attempt_of(request: Request, history: History) -> int | None:
    """The attempt at this model that ran when the request began, or the nearest in time: clocks differ a little."""
    asking = [
        (_seconds_outside(one, request.started_at), -number)
        for number, one in enumerate(history.tries, 1)
        if one.model in (None, request.model) and _begun(one, request.started_at + CLOCK_SLACK_S)
    ]
    return -min(asking)[1] if asking else None


def _seconds_outside(one: Try, moment: float) -> float:
    """Seconds from a moment to the attempt; 0 for one within it."""
    before = (one.started_at or 0.0) - moment
    after = moment - one.ended_at if one.ended_at is not None else 0.0
    return max(before, after, 0.0)


def too_early(case: Case) -> Iterator[str]:
    """Retries before the moment that a provider asked for."""
    for refused, following in _retries(case):
        waited = following.started_at - refused.ended_at
        if waited < (refused.retry_after or 0) - CLOCK_SLACK_S:
            yield f"{refused.call_id} waited {waited:.2f} s where {refused.model} asked for {refused.retry_after:g} s"


def waits(case: Case) -> Iterator[str]:
    """Retries for which a provider had asked for a wait."""
    for refused, following in _retries(case):
        waited = following.started_at - refused.ended_at
        yield f"{refused.call_id} waited {waited:.2f} s; {refused.model} asked for {refused.retry_after:g} s"


def _retries(case: Case) -> Iterator[tuple[Request, Request]]:
    """Refusals that named a wait and reached the call, each with the call's next request to the same model."""
    for history in case.histories:
        received = [
            request
            for number, requests in matched(case, history).items()
            for request in requests
            if number is not None and history.tries[number - 1].ending == "failed"
        ]
        for refused, following in pairwise(requests_of(case, history.call_id)):
            same = (refused.provider, refused.model) == (following.provider, following.model)
            if same and refused.status >= 400 and refused.retry_after and refused in received:
                yield refused, following


def job_kills(case: Case) -> Iterator[str]:
    """Kills after which the job's restart found calls of both kinds: with an answer, and still running."""
    for kill in kills_of(case, "job"):
        begun = [history for history in case.histories if any(_begun(one, kill.at) for one in history.tries)]
        answered = sum(history.answered_at is not None and history.answered_at < kill.at for history in begun)
        if 0 < answered < len(begun):
            yield f"pid {kill.pid}, with {answered} calls answered and {len(begun) - answered} under way"


def lost_with(history: History, kill: Kill) -> list[int]:
    """Numbers of the attempts that were under way at the kill and whose heartbeats then stopped."""
    return [
        number
        for number, one in enumerate(history.tries, 1)
        if one.heartbeat_lost
        and one.worker in (None, kill.pid)
        and _begun(one, kill.at)
        and kill.at < (one.ended_at or 0)
    ]


def open_at(request: Request, moment: float) -> bool:
    """Whether the provider was at work on it."""
    return request.started_at < moment < request.ended_at


def kills_of(case: Case, what: str) -> list[Kill]:
    """The kills of one kind of process."""
    return [kill for kill in case.kills if kill.what == what]


def requests_of(case: Case, call_id: str) -> list[Request]:
    """The requests of one call, in order."""
    return [request for request in case.requests if request.call_id == call_id]


def _begun(one: Try, moment: float) -> bool:
    return one.started_at is not None and one.started_at < moment
