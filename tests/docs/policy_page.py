"""`python -m tests.docs.policy_page`: the policy's tables as a page, from the code that obeys them."""

from collections.abc import Iterable

from durable_llm.contract.categories import Category
from workflows.policy.decide import ACTIONS, KEY_WAIT_S, LONGEST_KEY_WAIT_S, LOST_PER_MODEL, ROUND_SPACING_S
from workflows.policy.rules import BY_STATUS, ERROR_BODY, NO_RESPONSE, NOT_AN_ANSWER, OUR_SIDE, Rule
from workflows.policy.versions import CURRENT

_MEANING = {
    "retry": "same model again, after max(backoff, what the provider asked), within its `max_retries`",
    "retry_once": "same model once more, then the next",
    "next": "next model at once",
    "fail": "the call ends",
    "resend": f"same model after up to 2 s, {LOST_PER_MODEL} times per model, outside its `max_retries`; then the next",
    "resend_all_messages": "same model once more with all messages, outside its `max_retries`; then the next",
    "wait_for_key": f"same model after {KEY_WAIT_S:.0f} s, doubling up to {LONGEST_KEY_WAIT_S:.0f} s, outside "
    "its `max_retries`, until the deadline or `max_attempts`",
}

_ALSO = {
    "never-fits": "limit < requested",
    "response-gone": "asked how far a background response is",
    "previous-response": "status 400 or 404 that speaks of `previous_response_id`, or a response that ignores it",
}

_SECTIONS = (
    ("What our own side did", "It comes first: nothing a provider says matters when we could not ask it.", OUR_SIDE),
    ("A 200 that is no answer", "Read from the body, not from litellm's object, which invents finish reasons.",
     NOT_AN_ANSWER),
    ("The status on the wire", "The status picks the group; the provider's code, then its structured fields, then its "
     "words refine within it.", BY_STATUS),
    ("An error inside a 200", "Where it names no status of its own.", ERROR_BODY),
    ("No response", "Only here does litellm's exception class count.", NO_RESPONSE),
)  # fmt: skip

_HEAD = f"""# What happens after a failure

This page is generated from the code (`python -m tests.docs.policy_page`) and checked by a test. It shows policy version
{CURRENT}, which a call keeps from its start to its end.

## From category to action

| category | and so |
|---|---|
"""

_DECISIONS = f"""
A provider that asks for longer than `max_wait` (60 s) is left for the next model; where there is none, the call
waits if its deadline allows. `x-should-retry` decides only between same model and next. `rules={{"permission":
"fail"}}` in a call's policy overrides a row.

Backoff is full jitter, `uniform(0, min(backoff_cap, backoff_initial * 2^(n-1)))`. A provider's delay is a floor
with jitter of at least a tenth of it on top, never a moment that a thousand callers hit together.

With `on_exhausted="wait"` a call whose last model failed goes round the chain again, each model once a round,
until its deadline: at least {ROUND_SPACING_S:.0f} s between rounds, doubling, but never slower than what
spreads the attempts that are left evenly until the deadline.

`Policy(preset="lmi")` judges the category by the same table and takes the action from lmi's, on litellm's
exception class.

## From facts to category

Read from top to bottom; the first row that fits decides, and the ledger names it.
"""


def policy_page() -> str:
    """The page as Markdown."""
    actions = "".join(f"| {category} | {_MEANING[ACTIONS[category]]} |\n" for category in Category if _shown(category))
    sections = "".join(_section(*section) for section in _SECTIONS)
    return f"{_HEAD}{actions}{_DECISIONS}{sections}"


def _shown(category: Category) -> bool:
    return category is not Category.CANCELLED  # the caller's own decision, not a judgement


def _section(title: str, why: str, rules: Iterable[Rule]) -> str:
    rows = "".join(f"| {rule.name} | {_condition(rule)} | {_category(rule)} | {rule.why} |\n" for rule in rules)
    return f"\n### {title}\n\n{why}\n\n| rule | when | category | why |\n|---|---|---|---|\n{rows}"


def _category(rule: Rule) -> str:
    if rule.final:
        return f"{rule.category}; the call ends, whatever `rules` say"
    return f"{rule.category}; {_MEANING[rule.demand]}" if rule.demand else rule.category.value


def _condition(rule: Rule) -> str:
    parts = [
        *([", ".join(sorted(rule.fault))] if rule.fault else []),
        *([", ".join(sorted(rule.defect))] if rule.defect else []),
        *([f"status {_ranges(rule.status)}"] if rule.status else []),
        *([f"litellm's {', '.join(sorted(rule.exception))}"] if rule.exception else []),
        *([f"says so in {_where(rule)}"] if rule.fields or rule.text else []),
        *([_ALSO[rule.name]] if rule.name in _ALSO else []),
    ]
    return "; ".join(parts) or "always"


def _where(rule: Rule) -> str:
    if rule.fields and rule.text:
        return "code, fields or words"
    return "code or fields" if rule.fields else "words"


def _ranges(statuses: Iterable[int]) -> str:
    """Statuses as a reader writes them: 4xx, 5xx, or a list."""
    numbers = sorted(statuses)
    if len(numbers) == 100:
        return f"{numbers[0] // 100}xx"
    return ", ".join(map(str, numbers))


if __name__ == "__main__":
    print(policy_page(), end="")
