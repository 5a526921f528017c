"""The policy's versions. A call keeps the version that its first worker wrote into its history.

Every version that a running or recorded call may have stays here, so that after an upgrade each replay takes the same
path. To change the policy, add a table or a function, add a version, and leave the old ones alone.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from durable_llm.contract.categories import Action
from durable_llm.contract.facts import FailureFacts
from durable_llm.contract.policy import MAX_ATTEMPTS_CEILING, PolicyOnWire

from .decide import Case, Decision, Progress, Verdict, decide
from .lmi import as_lmi
from .patience import PatientCase
from .patterns import without_guesses
from .rules import RULES_V1, Rule
from .rules_v2 import RULES_V2


@dataclass(frozen=True)
class PolicyVersion:
    """One version of the policy."""

    rules: tuple[Rule, ...]
    case_type: type[Case] = Case
    """The ways to continue after a failure."""
    believes_guesses: bool = True
    """Whether a provider's guesses and examples count as statements."""

    def classify(self, facts: FailureFacts) -> Verdict:
        """What a failure is: the first row of the table that fits."""
        if not self.believes_guesses:
            facts = facts.model_copy(update={"text": without_guesses(facts.text)})
        rule = next(row for row in self.rules if row.fits(facts))
        return Verdict(rule.category, rule.name, rule.demand, final=rule.final)

    def decide(self, facts: FailureFacts, progress: Progress, policy: PolicyOnWire, remaining_s: float) -> Decision:
        """Classify a failure and decide what to do about it. Arguments as for `decide.decide`."""
        verdict = self.classify(facts)
        waited = replace(progress, attempts=progress.attempts + 1)
        if verdict.demand == "wait_for_release" and waited.attempts < MAX_ATTEMPTS_CEILING:
            free = replace(waited, attempts_before=waited.attempts_before + 1)
            reason = "waits until an operator releases it"
            return Decision(verdict.category, Action.WAIT, verdict.rule, reason, free, until_woken=True)
        if verdict.demand == "wait_for_budget" and waited.may_go_on(policy):
            reason = "waits for room in its budget"  # nothing was sent, so it spends no retry
            return Decision(verdict.category, Action.WAIT, verdict.rule, reason, waited, until_woken=True)
        if policy.preset == "lmi":
            verdict = as_lmi(verdict, facts)
        return decide(verdict, facts, progress, policy, remaining_s, self.case_type)


VERSIONS: Final[Mapping[int, PolicyVersion]] = MappingProxyType({
    1: PolicyVersion(RULES_V1),
    2: PolicyVersion(RULES_V2, PatientCase, believes_guesses=False),
})  # fmt: skip
FIRST: Final = 1
CURRENT: Final = max(VERSIONS)


def stamped_version(patched: Callable[[str], bool], versions: Collection[int] = tuple(VERSIONS)) -> int:
    """The version of a call: the newest one when it starts, and in every replay the one that it started with.

    Args:
        patched: `workflow.patched`, which writes a marker when a call first runs and finds it in a replay. The first
            version has no marker.
        versions: The versions that this worker knows. A worker that does not know a call's marker fails the task, and
            a newer worker takes it.
    """
    newest_first = sorted(versions, reverse=True)
    return next(version for version in newest_first if version == FIRST or patched(f"policy-{version}"))
