"""The verdict on a run: a program of its own that takes nobody's word.

It reads the evidence (see `tests/harness/parts/evidence.py`) and applies the rules below. A rule also fails when the run
gave it nothing to judge: a demo that killed nothing has shown nothing.
"""

from argparse import Namespace
from collections.abc import Iterator

from temporalio.client import Client

from tests.harness.demo import script
from tests.harness.parts import rules
from tests.harness.parts.checking import checking, deliver
from tests.harness.parts.evidence import Case, gather
from tests.harness.parts.rules import Verdict, no_faults, some_shown


def judge(case: Case) -> Verdict:
    """Apply all rules."""
    found = [
        no_faults("no call lost: each ended with an answer", _lost(case)),
        no_faults("no call asked again after its answer was in history", rules.asked_again(case)),
        no_faults("no request without an attempt in a call's history", rules.unaccounted(case)),
        no_faults("every Retry-After was kept", rules.too_early(case)),
        some_shown("a provider's Retry-After was put to the test", rules.waits(case)),
        some_shown("the worker was killed while a request was open", _worker_kills(case)),
        some_shown("the job was killed between its calls' ends", rules.job_kills(case)),
    ]
    passed = all(rule.held for rule in found)
    return Verdict(passed=passed, calls=len(case.histories), requests=len(case.requests), rules=found)


def _lost(case: Case) -> Iterator[str]:
    histories = {history.call_id: history for history in case.histories}
    for call_id in case.expected:
        history = histories.get(call_id)
        if history is None:
            yield f"{call_id} does not exist"
        elif not history.completed or history.answered_at is None:
            yield f"{call_id} has no answer"


def _worker_kills(case: Case) -> Iterator[str]:
    """Kills that the journal and the history both show: a request open at the moment, and its attempt lost."""
    for kill in rules.kills_of(case, "worker"):
        for history in case.histories:
            asked = any(rules.open_at(one, kill.at) for one in rules.requests_of(case, history.call_id))
            if asked and rules.lost_with(history, kill):
                yield f"pid {kill.pid}, with {history.call_id} at its provider"


async def check(given: Namespace, client: Client) -> Verdict:
    """Gather the evidence and judge it."""
    expected = [script.call_id(given.run, step.number) for step in script.STEPS]
    return judge(await gather(expected, given.provider, given.kills, client))


if __name__ == "__main__":
    deliver(checking(), check)
