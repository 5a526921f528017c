"""The failure corpus, judged: what is on the wire, through litellm, the activity and the policy, to the right action."""

import pytest

from durable_llm.policy import Policy
from tests.test_corpus_facts import WITH_KEY, facts_of
from workflows.policy.decide import Progress
from workflows.policy.versions import CURRENT, VERSIONS

WORD = {"retry": "retry", "next": "fallback", "fail": "fail"}


@pytest.mark.parametrize("case", WITH_KEY, ids=lambda case: case["id"])
async def test_the_policy_takes_the_right_action_after_the_right_wait(case: dict) -> None:
    """With another model in the chain: retry, fall back or fail, and never sooner than the provider asked."""
    facts, _ = await facts_of(case)
    verdict, decision = VERSIONS[CURRENT].judge(facts, Progress(budgets=(3, 3)), Policy(), 86_400.0)
    taken = WORD[decision.action]
    assert taken in [case["expected"], *(case.get("also_ok") or [])], f"{verdict.rule}: {facts.headline()}"
    if taken == "retry" and case.get("expected_min_delay_s"):
        assert decision.floor_s >= case["expected_min_delay_s"]
