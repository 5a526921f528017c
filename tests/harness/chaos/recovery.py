"""Which answers were not used, and how soon calls went on after a kill."""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel

from tests.harness.parts.evidence import Case, Entry, History, Kill
from tests.harness.parts.rules import kills_of, lost_with, matched

ENDINGS = {
    "AllModelsExhaustedError": "exhausted",
    "RequestRejectedError": "rejected",
    "DeadlineExceededError": "deadline",
}
"""How a call ended, by the type of its error."""


def ending(history: History) -> str | None:
    """How the call ended; None when it has not."""
    return "answered" if history.completed else ENDINGS.get(history.error, history.error) if history.error else None


class UnusedAnswer(BaseModel):
    """An answer that the provider served and that did not end its call."""

    call_id: str
    model: str | None
    attempt: int | None
    """None: no attempt made the request."""
    why: str | None
    """The category of the attempt whose outcome is unknown, as the ledger has it; None when it has no such entry."""
    again: bool
    """Whether the call had another answer from a provider, so that it was paid for more than once."""


def unused_answers(case: Case) -> Iterator[UnusedAnswer]:
    """All answers that were served and not used."""
    for history in case.histories:
        served = [
            (number, request)
            for number, requests in matched(case, history).items()
            for request in requests
            if request.served
        ]
        for number, request in served:
            if number is None or history.tries[number - 1].ending != "completed":
                yield UnusedAnswer(
                    call_id=history.call_id, model=request.model, attempt=number, why=_why(history, number),
                    again=len(served) > 1,
                )  # fmt: skip


def _why(history: History, number: int | None) -> str | None:
    entry = entry_of(history, number)
    return entry.category if entry and entry.outcome == "unknown" else None


def entry_of(history: History, number: int | None) -> Entry | None:
    """The ledger's entry of an attempt, if it has one."""
    return history.ledger[number - 1] if number is not None and number <= len(history.ledger) else None


@dataclass(frozen=True)
class Resumption:
    """An attempt that was lost at a kill, and the next one; times in seconds."""

    call_id: str
    attempt: int
    after_kill_s: float
    """From the kill to the next attempt."""
    after_notice_s: float
    """From the moment that the loss could be known and somebody could act on it."""


def resumptions(case: Case, heartbeat_timeout_s: float) -> Iterator[Resumption]:
    """How soon each call went on whose attempt was lost with its worker."""
    for kill in kills_of(case, "worker"):
        for history in case.histories:
            for number in lost_with(history, kill):
                following = history.tries[number : number + 1]
                if following and (at := following[0].started_at) is not None:
                    noticed = max(kill.at + heartbeat_timeout_s, *_delayed_at(case, history, kill.at, at), 0.0)
                    yield Resumption(history.call_id, number, at - kill.at, at - noticed)


def _delayed_at(case: Case, history: History, since: float, until: float) -> Iterator[float]:
    """Moments between two at which the call was hit again: what it waited for has to begin anew."""
    yield from (kill.back_at for kill in kills_of(case, "server") if kill.back_at and since < kill.back_at < until)
    yield from (at for at in history.stalled_at if since < at < until)
    for kill in kills_of(case, "worker"):
        if since < kill.at < until and _holder(history, kill) == kill.pid:
            yield kill.at


def _holder(history: History, kill: Kill) -> int | None:
    """The worker that had the call in its cache."""
    return next((one.worker for one in reversed(history.deciders) if one.at < kill.at), None)
