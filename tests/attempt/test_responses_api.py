"""OpenAI's Responses API: one request, converted both ways, classified by the body on the wire."""

import pytest
from llmock.testing import LLMockServer
from temporalio.exceptions import ApplicationError

from durable_llm.contract.categories import Action
from durable_llm.contract.config import ModelSpec
from durable_llm.contract.facts import AnswerDefect, LocalFault
from durable_llm.contract.policy import PolicyOnWire
from durable_llm.contract.request import Prompt
from tests.support.attempts import TOOLS, attempt, order, says
from tests.support.responses import CALL, TEXT, response
from tests.support.wire import playing
from workflows.policy.decide import Progress
from workflows.policy.versions import CURRENT, VERSIONS


async def served(body: dict, model: str = "openai/gpt-4o-mini", prompt=None, **spec):
    """What the attempt makes of one response, and the one request that the server saw."""
    async with playing({"body": body}) as wire:
        try:
            outcome = await attempt(order(model, wire.url, responses_api=True, **spec), prompt)
        except ApplicationError as error:
            outcome = error.details[0]
    assert len(wire.requests) == 1, outcome
    [request] = wire.requests
    return outcome, request


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("openai/gpt-4o-mini", b"POST /responses "),
        ("gpt-4o-mini", b"POST /responses "),
        ("openai/responses/gpt-4o-mini", b"POST /responses "),
        ("openai/somebody/elses-model", b"POST /responses "),
        ("azure/gpt-4o-mini", b"POST /openai/v1/responses"),
    ],
)
async def test_the_responses_api_is_asked_once(model, path):
    """Whatever the model, the request goes to that API and nowhere else."""
    answer, request = await served(response(TEXT), model)

    assert request.startswith(path)
    assert answer.choices[0].text == "seven"


async def test_an_answer_is_that_of_any_api():
    """Text, tokens, price and id; a tool call with its arguments."""
    text, _ = await served(response(TEXT))
    call, _ = await served(response(CALL), prompt=says(tools=TOOLS))

    assert (text.usage.prompt_tokens, text.usage.completion_tokens, text.usage.cache_read_tokens) == (12, 3, 4)
    assert text.cost > 0
    assert (text.response_id, text.model) == ("resp_1", "gpt-4o-mini-2024-07-18")
    assert call.choices[0].tool_calls[0].function.parsed_arguments() == {"city": "Rome"}


async def test_half_a_character_does_not_cost_the_answer():
    """It is read as U+FFFD, in texts, reasoning and arguments."""
    broken = {**TEXT, "content": [{"type": "output_text", "text": "fine \ud83d", "annotations": []}]}
    thought = {"id": "r", "type": "reasoning", "summary": [{"type": "summary_text", "text": "odd \ude00"}]}
    call = {**CALL, "arguments": '{"city": "\ud83d"}'}
    answer, _ = await served(response(thought, broken, call, model="m\ud83d"), prompt=says(tools=TOOLS))

    [choice] = answer.choices
    assert (choice.text, choice.reasoning_content, answer.model) == ("fine \ufffd", "odd \ufffd", "m\ufffd")
    assert choice.tool_calls[0].function.parsed_arguments() == {"city": "\ufffd"}


def message(*parts: dict) -> dict:
    """An output item that says something."""
    return {"id": "m", "type": "message", "role": "assistant", "status": "completed", "content": list(parts)}


def said(text: str, **fields) -> dict:
    """A part of an answer."""
    return {"type": "output_text", "text": text, "annotations": [], **fields}


async def test_everything_of_an_answer_is_kept():
    """All its texts, the summary of the reasoning, log probabilities, and each call under the id that answers it."""
    logprob = {"token": "s", "logprob": -0.1, "bytes": [115], "top_logprobs": []}
    reasoning = {"id": "rs_1", "type": "reasoning", "summary": [
        {"type": "summary_text", "text": "First."}, {"type": "summary_text", "text": "Then."}]}  # fmt: skip
    output = (reasoning, message(said("se", logprobs=[logprob]), said("ven")), message(said("!")), CALL,
              {**CALL, "id": "fc_2", "call_id": "call_2", "arguments": ""})  # fmt: skip
    answer, _ = await served(response(*output), prompt=says(tools=TOOLS))

    [choice] = answer.choices
    assert (choice.text, choice.finish_reason) == ("seven!", "tool_calls")
    assert [call.id for call in choice.tool_calls] == ["call_1", "call_2"]
    assert choice.logprobs == {"content": [logprob]}
    assert answer.choices[0].reasoning_content == "First.\n\nThen."


async def test_an_open_model_s_reasoning_is_kept():
    """Servers of open models tell the reasoning itself, and may leave out what OpenAI tells."""
    reasoning = {
        "id": "rs_1",
        "type": "reasoning",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "Hm."}],
    }
    answer, _ = await served(response(reasoning, TEXT, usage=None))

    assert (answer.choices[0].text, answer.choices[0].reasoning_content) == ("seven", "Hm.")
    assert (answer.usage, answer.cost) == (None, None)


async def test_cached_tokens_cost_less():
    """The price counts what came from the provider's cache."""
    whole = {"input_tokens": 1000, "output_tokens": 1, "input_tokens_details": {"cached_tokens": 0}}
    cached = {**whole, "input_tokens_details": {"cached_tokens": 1000}}
    dear, _ = await served(response(TEXT, usage=whole))
    cheap, _ = await served(response(TEXT, usage=cached))

    assert cheap.usage.cache_read_tokens == 1000
    assert 0 < cheap.cost < dear.cost


REFUSAL = message({"type": "refusal", "refusal": "I cannot help with that."})


@pytest.mark.parametrize("item", [REFUSAL, message(said("Well, "), {"type": "refusal", "refusal": "no."})])
async def test_a_refusal_is_one_as_on_chat(item):
    """Also where something was said before it; the model's words are the reason."""
    facts, _ = await served(response(item))

    assert (facts.answer_defect, facts.cost > 0) == (AnswerDefect.REFUSAL, True)
    assert facts.text in ("I cannot help with that.", "no.")


ENDS = [
    (response(status="failed", error={"code": "server_error", "message": "Sorry."}), AnswerDefect.ERROR_BODY),
    (response(status="incomplete", incomplete_details={"reason": "max_output_tokens"}), AnswerDefect.LENGTH),
    (response(TEXT, status="incomplete", incomplete_details={"reason": "content_filter"}), AnswerDefect.CONTENT_FILTER),
    (response(TEXT, status="cancelled"), AnswerDefect.CUT),
    (response(TEXT, status="failed"), AnswerDefect.CUT),
    (response(TEXT, status="incomplete"), AnswerDefect.CUT),
    (response({"id": "rs", "type": "reasoning", "summary": []}), AnswerDefect.EMPTY),
    (
        response(
            {**CALL, "arguments": '{"ci'}, status="incomplete", incomplete_details={"reason": "max_output_tokens"}
        ),
        AnswerDefect.LENGTH,
    ),
    (response({**CALL, "arguments": "[1]"}), AnswerDefect.INVALID_TOOL_ARGUMENTS),
    (response(), AnswerDefect.EMPTY),
]


@pytest.mark.parametrize(("body", "defect"), ENDS)
async def test_a_response_that_is_no_answer_is_a_failure(body, defect):
    """The status and its details decide, not litellm's finish reason."""
    facts, _ = await served(body)

    assert facts.answer_defect == defect


FAILED = [
    ("rate_limit_exceeded", "rate_limited"),
    ("server_error", "server_error"),
    ("invalid_prompt", "invalid_request"),
    ("image_content_policy_violation", "refused"),
    ("insufficient_quota", "quota_exhausted"),
]


@pytest.mark.parametrize(("code", "category"), FAILED)
async def test_a_failed_response_is_classified_by_its_code(code, category):
    """The error object inside says what an error's body says on chat."""
    facts, _ = await served(response(status="failed", error={"code": code, "message": "Sorry."}, usage=None))

    assert (facts.error_code, facts.text) == (code, "Sorry.")
    assert VERSIONS[CURRENT].classify(facts).category == category


async def test_length_with_text_is_an_answer():
    """As on every other API."""
    answer, _ = await served(response(TEXT, status="incomplete", incomplete_details={"reason": "max_output_tokens"}))

    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("seven", "length")


async def test_it_may_be_streamed():
    """The last event holds the whole response; what it says is classified the same way."""
    with LLMockServer() as provider:
        spec = {"responses_api": True, "extra_params": {"stream": True}}
        answer = await attempt(order("openai/gpt-4o-mini", provider.base_url("openai"), **spec))
        assert len(provider.state.journal) == 1

    assert answer.choices[0].text
    assert answer.usage.completion_tokens > 0


BEFORE = [
    {"role": "user", "content": "Name a prime."},
    {"role": "assistant", "content": "Two.", "response_id": "resp_0", "provider": "openai"},
    {"role": "user", "content": "A larger one."},
]


@pytest.mark.parametrize("output", [[TEXT], []])
async def test_a_response_that_ignores_the_one_before_is_no_answer(output):
    """It answers without the conversation; it was paid for, and the next attempt sends every message."""
    body = response(*output, previous_response_id=None)
    facts, request = await served(body, prompt=Prompt(messages=BEFORE))

    assert b'"previous_response_id":"resp_0"' in request.replace(b" ", b"")
    assert (facts.answer_defect, facts.lacks_previous_response) == (AnswerDefect.FORGOTTEN, True)
    assert facts.billed == facts.cost > 0
    assert VERSIONS[CURRENT].classify(facts).rule == "previous-response"


GONE_ON = [
    ({"previous_response_id": "resp_0"}, BEFORE, "it goes on from that one"),
    ({}, BEFORE, "it does not say"),
    ({"previous_response_id": "resp_x"}, BEFORE, "a gateway's own name for it"),
    ({"previous_response_id": None}, BEFORE[:1], "nothing came before"),
]


@pytest.mark.parametrize(("fields", "messages", "why"), GONE_ON, ids=[why for *_, why in GONE_ON])
async def test_a_response_that_may_have_gone_on_is_an_answer(fields, messages, why):
    """Only one that says that it goes on from none forgets."""
    answer, _ = await served(response(TEXT, **fields), prompt=Prompt(messages=messages))

    assert answer.choices[0].text == "seven"


async def test_a_failed_response_that_ignores_the_one_before_failed():
    """Its error says what to do."""
    error = {"code": "rate_limit_exceeded", "message": "Sorry."}
    body = response(status="failed", error=error, usage=None, previous_response_id=None)
    facts, _ = await served(body, prompt=Prompt(messages=BEFORE))

    assert (facts.error_code, facts.lacks_previous_response) == ("rate_limit_exceeded", False)


WAITING = [
    {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_1", "name": "sh", "input": "ls"},
    {"type": "mcp_approval_request", "id": "mcpr_1", "name": "f", "arguments": "{}", "server_label": "s"},
    {"type": "computer_call", "id": "cu_1", "call_id": "call_1", "action": {"type": "screenshot"},
     "pending_safety_checks": [], "status": "completed"},
]  # fmt: skip


@pytest.mark.parametrize("item", WAITING, ids=[item["type"] for item in WAITING])
@pytest.mark.parametrize("beside", [(), (TEXT,)])
@pytest.mark.parametrize("preset", ["default", "lmi"])
async def test_what_no_function_answers_leads_to_the_next_model(item, beside, preset):
    """Asking the same model again would buy the same question."""
    facts, _ = await served(response(item, *beside))
    decision = VERSIONS[CURRENT].decide(facts, Progress(budgets=(3, 3)), PolicyOnWire(preset=preset), 1000.0)

    assert (facts.local_fault, item["type"] in facts.text) == (LocalFault.UNSUPPORTED, True)
    assert facts.billed == facts.cost > 0
    assert decision.action == Action.NEXT


async def test_a_shell_that_the_provider_runs_waits_for_nobody():
    """Its output is in the same response."""
    call = {"type": "shell_call", "id": "sh_1", "call_id": "call_1", "action": {"commands": ["ls"]}}
    output = {"type": "shell_call_output", "id": "sho_1", "call_id": "call_1", "output": []}
    answer, _ = await served(response(call, output, TEXT))

    assert answer.choices[0].text == "seven"


HOSTED = ["web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call"]


@pytest.mark.parametrize("kind", HOSTED)
async def test_a_tool_of_the_provider_s_leaves_the_cost_unknown(kind):
    """It is billed beside the tokens, and a part of a cost is none."""
    answer, _ = await served(response({"type": kind, "id": "x_1", "status": "completed"}, TEXT))

    assert (answer.choices[0].text, answer.cost) == ("seven", None)
    assert answer.usage.completion_tokens == 3


@pytest.mark.parametrize("parameters", [{"logprobs": True}, {"logprobs": True, "top_logprobs": 2}])
@pytest.mark.parametrize("responses_api", [True, False])
@pytest.mark.parametrize("preset", ["default", "lmi"])
async def test_log_probabilities_that_a_model_cannot_give_are_refused(parameters, responses_api, preset):
    """By either API before anything is sent, and the next model is asked, whatever the preset."""
    asked = order("openai/o3", "http://127.0.0.1:9", responses_api=responses_api, extra_params=parameters)
    with pytest.raises(ApplicationError) as raised:
        await attempt(asked)
    facts = raised.value.details[0]
    decision = VERSIONS[CURRENT].decide(facts, Progress(budgets=(3, 3)), PolicyOnWire(preset=preset), 1000.0)

    assert (facts.local_fault, facts.request_sent) == (LocalFault.UNSUPPORTED, "no")
    assert "logprobs" in facts.text
    assert decision.action == Action.NEXT


async def test_an_unknown_model_may_give_log_probabilities():
    """Nobody knows better than its server."""
    _, request = await served(response(TEXT), "openai/my-own", extra_params={"logprobs": True})

    assert b"message.output_text.logprobs" in request


HIDDEN = [("background", True), ("stream", True), ("previous_response_id", "resp_0")]


@pytest.mark.parametrize(("name", "value"), HIDDEN)
async def test_what_decides_how_a_response_is_read_is_not_hidden(name, value):
    """In `extra_body` nobody would know of it: it is refused where the spec is written, and on the worker."""
    parameters = {"extra_body": {name: value}}
    with pytest.raises(ValueError, match=f"extra_body: '{name}' is refused"):
        ModelSpec(name="openai/gpt-4o-mini", responses_api=True, extra_params=parameters)
    with pytest.raises(ApplicationError, match=f"extra_body: '{name}' is refused"):
        await attempt(order("openai/gpt-4o-mini", "http://127.0.0.1:9", responses_api=True, extra_params=parameters))
    assert ModelSpec(name="openai/gpt-4o-mini", responses_api=True, extra_params={"extra_body": {name: None}})


def test_a_background_response_is_stored_whatever_the_body_says():
    """One that is not could not be followed."""
    with pytest.raises(ValueError, match="leave 'store' out"):
        ModelSpec(
            name="openai/gpt-4o-mini",
            responses_api=True,
            background=True,
            extra_params={"extra_body": {"store": False}},
        )
