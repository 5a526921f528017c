"""The verdict on a run, by a program that reads only what providers and Temporal recorded.

It reads the evidence (see `tests/harness/parts/evidence.py`) and applies the rules below. Some rules fail when the run
had no case of what they are about, for example no kill.
"""

from argparse import Namespace
from collections.abc import Iterator

from temporalio.client import Client

from tests.harness.demo import script
from tests.harness.parts import rules
from tests.harness.parts.checker import checker_arguments, run_checker
from tests.harness.parts.evidence import Case, collect
from tests.harness.parts.rules import Verdict, at_least, no_faults


def verify(case: Case) -> Verdict:
    """Apply all rules."""
    found = [
        no_faults("no call lost: each ended with an answer", _lost(case)),
        no_faults("no call asked again after its answer was in history", rules.asked_again(case)),
        no_faults("no request without an attempt in a call's history", rules.unexplained_requests(case)),
        no_faults("every Retry-After was kept", rules.too_early(case)),
        at_least("a provider asked for a wait, and the call waited", rules.waits(case)),
        at_least("the worker was killed while a request was open", _worker_kills(case)),
        at_least("the job was killed between its calls' ends", rules.job_kills(case)),
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
    """Collect the evidence and apply the rules."""
    expected = [script.call_id(given.run, step.number) for step in script.STEPS]
    return verify(await collect(expected, given.provider, given.kills, client))


if __name__ == "__main__":
    run_checker(checker_arguments(), check)
