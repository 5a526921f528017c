"""The failure corpus through the real activity: what was on the wire is what the facts say."""

import json

import pytest
from temporalio.exceptions import ApplicationError

from durable_llm.contract.facts import AnswerDefect, LocalFault, Sent
from durable_llm.contract.names import ATTEMPT_FAILED
from tests.support import ROOT
from tests.support.attempts import TOOLS, attempt, order, says
from tests.support.wire import playing

CASES = json.loads((ROOT / "tests/support/data" / "provider_failures.json").read_text())
WITH_KEY = [case for case in CASES if not case["id"].startswith("litellm-local-missing")]

DEFECTS = {
    "gemini-200-prompt-blocked-prohibited": AnswerDefect.CONTENT_FILTER,
    "gemini-200-prompt-blocked-model-armor": AnswerDefect.CONTENT_FILTER,
    "gemini-200-malformed-function-call": AnswerDefect.INVALID_TOOL_ARGUMENTS,
    "gemini-200-stop-no-parts": AnswerDefect.EMPTY,
    "gemini-200-no-candidates": AnswerDefect.EMPTY,
    "deepseek-200-keepalive-then-close": AnswerDefect.UNREADABLE,
    "openai-200-content-filter": AnswerDefect.CONTENT_FILTER,
    "openai-200-refusal-field": AnswerDefect.REFUSAL,
    "openai-sse-error-event": AnswerDefect.ERROR_BODY,
    "openai-200-malformed-tool-arguments": AnswerDefect.INVALID_TOOL_ARGUMENTS,
    "responses-200-refusal": AnswerDefect.REFUSAL,
    "responses-200-incomplete-max-output-tokens": AnswerDefect.LENGTH,
    "responses-200-failed-rate-limit": AnswerDefect.ERROR_BODY,
    "openrouter-200-error-429-daily": AnswerDefect.ERROR_BODY,
    "openrouter-200-error-502": AnswerDefect.ERROR_BODY,
}


def spec_of(case: dict) -> dict:
    """What a spec says beside name and address, to ask as the case was asked."""
    call = {name: value for name, value in (case.get("call") or {}).items() if not name.startswith("_")}
    streamed = {"stream": True} if case.get("stream") else {}
    return {"extra_params": {**call, **streamed}, "responses_api": case.get("api") == "responses"}


async def facts_of(case: dict):
    """The facts of one attempt at a server that plays `case`, and the server."""
    async with playing(case) as wire:
        prompt = says(tools=TOOLS if (case.get("call") or {}).get("_tools") else None)
        asked = order(case["litellm_model"], wire.url, timeout_s=case.get("timeout_s") or 20.0, **spec_of(case))
        with pytest.raises(ApplicationError) as raised:
            await attempt(asked, prompt)
    assert raised.value.type == ATTEMPT_FAILED
    return raised.value.details[0], wire


@pytest.mark.parametrize("case", WITH_KEY, ids=lambda case: case["id"])
async def test_facts_tell_what_was_on_the_wire(case):
    """One request; status, code and wait are those of the response, not of litellm's exception."""
    facts, wire = await facts_of(case)

    assert len(wire.requests) == (0 if case.get("fault") == "connection_refused" else 1)
    assert facts.request_sent is (Sent.NO if case.get("fault") == "connection_refused" else Sent.YES)
    if case["http_status"] >= 300:
        assert facts.http_status == case["http_status"]
        assert facts.text
    if case.get("expected_min_delay_s") is not None:
        assert facts.retry_after_s >= case["expected_min_delay_s"]
    assert facts.answer_defect == DEFECTS.get(case["id"])
    code = _code(case)
    assert code is None or facts.error_code == code


def _code(case: dict):
    """The code in an OpenAI-shaped body that is no repeated status."""
    error = case["body"].get("error") if isinstance(case["body"], dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) and not code.isdigit() else None


FAULTS = [
    ("connection_refused", LocalFault.CONNECT, Sent.NO, 0),
    ("reset_before_response", LocalFault.DISCONNECTED, Sent.YES, 1),
    ("close_before_response", LocalFault.DISCONNECTED, Sent.YES, 1),
    ("reset_mid_body", LocalFault.DISCONNECTED, Sent.YES, 1),
    ("timeout", LocalFault.TIMEOUT, Sent.YES, 1),
    ("slow_drip", LocalFault.TIMEOUT, Sent.YES, 1),
]
FAMILIES = [
    "openai/gpt-4.1",
    "azure/gpt-4o",
    "anthropic/claude-sonnet-4-5",
    "gemini/gemini-2.5-flash",
    "mistral/m",
    "groq/g",
]
BODY = {"id": "x", "object": "chat.completion", "model": "m", "created": 1, "choices": []}


@pytest.mark.parametrize("model", FAMILIES)
@pytest.mark.parametrize(("fault", "local_fault", "sent", "requests"), FAULTS, ids=str)
async def test_transport_faults_are_told_apart(model, fault, local_fault, sent, requests):
    """For every provider family a broken connection is one request, named for what broke."""
    facts, wire = await facts_of({"litellm_model": model, "fault": fault, "body": BODY, "timeout_s": 2.0})

    assert (facts.local_fault, facts.request_sent, len(wire.requests)) == (local_fault, sent, requests)


@pytest.mark.parametrize("model", FAMILIES)
@pytest.mark.parametrize(
    ("case", "defect"),
    [
        ({"fault": "truncated_json", "body": BODY}, AnswerDefect.CUT),
        ({"fault": "empty_body"}, AnswerDefect.UNREADABLE),
        (
            {"body": "<html><title>Welcome</title></html>", "headers": {"content-type": "text/html"}},
            AnswerDefect.UNREADABLE,
        ),
    ],
    ids=["truncated", "empty", "html"],
)
async def test_unreadable_bodies_are_no_answers(model, case, defect):
    """A 200 whose body cannot be read is told as such, whatever litellm makes of it."""
    facts, wire = await facts_of({**case, "litellm_model": model})

    assert (facts.http_status, facts.answer_defect, len(wire.requests)) == (200, defect, 1)


@pytest.mark.parametrize("model", FAMILIES)
@pytest.mark.parametrize("same_host", [True, False])
async def test_redirects_are_not_followed(model, same_host):
    """A redirect is a second request and may carry the key elsewhere; the attempt ends with the redirect itself."""
    async with playing({"http_status": 200, "body": BODY}) as other:
        headers = {"location": "/elsewhere" if same_host else f"{other.url}/elsewhere"}
        facts, wire = await facts_of({"litellm_model": model, "http_status": 307, "headers": headers, "body": ""})

    assert (facts.http_status, len(wire.requests), len(other.requests)) == (307, 1, 0)
    assert "redirect" in facts.text
