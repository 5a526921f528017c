"""Failures from public bug reports, and more of each kind: bytes on the wire, through the attempt, to an action."""

import json

import pytest
from temporalio.exceptions import ApplicationError

from durable_llm.contract.facts import FailureFacts
from durable_llm.contract.policy import Policy
from durable_llm.contract.result import Answer
from tests.attempt.test_corpus_facts import spec_of
from tests.support import ROOT
from tests.support.attempts import attempt, order
from tests.support.wire import playing
from workflows.policy.decide import Decision, Progress
from workflows.policy.versions import CURRENT, VERSIONS

REPORTS = json.loads((ROOT / "tests/support/data" / "failure_reports.json").read_text())
FAILURES = [case for case in REPORTS if "phases" not in case]
WORD = {"retry": "retry", "next": "fallback", "fail": "fail"}


async def outcome_of(case: dict, *, last_model: bool = False) -> Answer | FailureFacts:
    """The answer or the facts of one attempt at a server that plays `case`."""
    async with playing(case) as wire:
        one = order(case["litellm_model"], wire.url, **spec_of(case)).model_copy(update={"last_model": last_model})
        try:
            return await attempt(one)
        except ApplicationError as error:
            return error.details[0]


def decided(facts: FailureFacts, budgets: tuple[int, ...] = (3, 3)) -> Decision:
    """The decision of the current policy."""
    return VERSIONS[CURRENT].decide(facts, Progress(budgets=budgets), Policy(), 86_400.0)


@pytest.mark.parametrize("case", FAILURES, ids=lambda case: case["id"])
async def test_a_reported_failure_leads_to_the_right_action(case: dict) -> None:
    """With another model in the chain. Half an answer is never a whole one, and the ledger names the cause."""
    facts = await outcome_of(case)
    assert isinstance(facts, FailureFacts), facts
    decision = decided(facts)
    assert WORD[decision.action] in [case["expected"], *case.get("also_ok", [])], (decision.rule, facts.headline())
    assert decision.category not in case.get("category_not", [])
    assert decision.category == case.get("category", decision.category), decision.rule
    if case.get("cost_unknown"):
        assert facts.billed is None


@pytest.mark.parametrize(
    "case", [case for case in FAILURES if "length" in case.get("accept_finish", [])], ids=lambda case: case["id"]
)
async def test_the_last_model_may_give_what_fits_into_its_window(case: dict) -> None:
    """Where no other model follows, a text that the window cut is an answer that says so: "length"."""
    answer = await outcome_of(case, last_model=True)
    assert isinstance(answer, Answer)
    assert answer.choices[0].text
    assert answer.choices[0].finish_reason == "length"


def completion(finish: str, **choice: object) -> dict:
    """A chat completion that ends with `finish`."""
    message = {"role": "assistant", "content": "two"}
    return {"body": {"id": "x", "object": "chat.completion", "created": 1, "model": "m",
                     "choices": [{"index": 0, "message": message, "finish_reason": finish, **choice}]}}  # fmt: skip


@pytest.mark.parametrize(
    ("model", "case", "finish"),
    [
        ("openai/m", completion("stop"), "stop"),
        ("openai/m", completion("a_new_reason"), "a_new_reason"),
        ("openai/m", completion("eos"), "stop"),
        ("openai/m", completion("model_length"), "length"),
        ("openrouter/m", completion("stop", native_finish_reason="a_native_reason"), "stop"),
        ("openrouter/m", completion("length", native_finish_reason="MAX_TOKENS"), "length"),
        ("anthropic/m", {"body": {"id": "x", "type": "message", "role": "assistant", "model": "m",
                                  "content": [{"type": "text", "text": "two"}], "stop_reason": "a_new_reason",
                                  "usage": {"input_tokens": 1, "output_tokens": 1}}}, "a_new_reason"),
        ("gemini/m", {"body": {"candidates": [{"content": {"role": "model", "parts": [{"text": "two"}]},
                                               "finishReason": "A_NEW_REASON", "index": 0}]}}, "A_NEW_REASON"),
    ],
)  # fmt: skip
async def test_the_finish_reason_is_the_wires(model: str, case: dict, finish: str) -> None:
    """In OpenAI's word where it has one, else verbatim: litellm says "stop" for every reason that it does not know."""
    answer = await outcome_of({"litellm_model": model, **case})
    assert isinstance(answer, Answer), answer
    assert answer.choices[0].finish_reason == finish


@pytest.mark.parametrize(
    "body",
    [completion("stop")["body"] | {"base_resp": {"status_code": 0, "status_msg": "success"}},
     completion("stop")["body"] | {"code": 0, "message": "ok"},
     completion("stop")["body"] | {"status": "success", "success": True}],
)  # fmt: skip
async def test_an_answer_beside_a_word_of_success_is_an_answer(body: dict) -> None:
    """A code of zero, and fields that say that all is well, are no error."""
    assert isinstance(await outcome_of({"litellm_model": "openai/m", "body": body}), Answer)


async def test_a_connection_that_ends_late_is_asked_for_once_more_at_most() -> None:
    """Alone in its chain, with three retries: one more request, and then the call ends with its cost unknown."""
    [case] = [case for case in REPORTS if case["kind"] == "paid connection"]
    facts = await outcome_of(case)
    first = decided(facts, (case["max_retries"],))
    assert first.action == "retry"
    second = VERSIONS[CURRENT].decide(facts, first.progress, Policy(), 86_400.0)
    assert second.action == "fail"
    assert facts.billed is None
    assert facts.outcome == "unknown"
