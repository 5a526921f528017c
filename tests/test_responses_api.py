"""OpenAI's Responses API: one request, converted both ways, judged by the body on the wire."""

import json

import pytest
from llmock.testing import LLMockServer
from temporalio.exceptions import ApplicationError

from durable_llm.facts import AnswerDefect
from tests.support_attempts import TOOLS, attempt, order, says
from tests.support_responses import CALL, TEXT, response
from tests.support_wire import playing

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


async def test_prompt_and_parameters_are_converted():
    """Messages, tools and limits arrive in that API's words."""
    prompt = says(tools=TOOLS, response_format={"type": "json_object"})
    _, request = await served(response(TEXT), prompt=prompt, extra_params={"max_tokens": 30, "temperature": 0.5})
    sent = json.loads(request.partition(b"\r\n\r\n")[2])

    assert sent["model"] == "gpt-4o-mini"
    assert sent["input"][0]["content"] == [{"type": "input_text", "text": "Name a prime."}]
    assert sent["tools"][0]["name"] == "get_weather"
    assert (sent["max_output_tokens"], sent["temperature"]) == (30, 0.5)
    assert sent["text"] == {"format": {"type": "json_object"}}


async def test_an_answer_is_that_of_any_api():
    """Text, tokens, price and id; a tool call with its arguments."""
    text, _ = await served(response(TEXT))
    call, _ = await served(response(CALL), prompt=says(tools=TOOLS))

    assert (text.usage.prompt_tokens, text.usage.completion_tokens, text.usage.cache_read_tokens) == (12, 3, 4)
    assert text.cost > 0
    assert (text.response_id, text.model) == ("resp_1", "gpt-4o-mini-2024-07-18")
    assert call.choices[0].tool_calls[0].function.parsed_arguments() == {"city": "Rome"}


ENDS = [
    (response(status="failed", error={"code": "server_error", "message": "Sorry."}), AnswerDefect.ERROR_BODY),
    (response(status="incomplete", incomplete_details={"reason": "max_output_tokens"}), AnswerDefect.LENGTH),
    (response(TEXT, status="incomplete", incomplete_details={"reason": "content_filter"}), AnswerDefect.CONTENT_FILTER),
    (response(TEXT, status="cancelled"), AnswerDefect.CUT),
    (response(), AnswerDefect.EMPTY),
]


@pytest.mark.parametrize(("body", "defect"), ENDS)
async def test_a_response_that_is_no_answer_is_a_failure(body, defect):
    """The status and its details decide, not litellm's finish reason."""
    facts, _ = await served(body)

    assert facts.answer_defect == defect


async def test_length_with_text_is_an_answer():
    """As on every other API."""
    answer, _ = await served(response(TEXT, status="incomplete", incomplete_details={"reason": "max_output_tokens"}))

    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("seven", "length")


async def test_it_may_be_streamed():
    """The last event holds the whole response; what it says is judged the same way."""
    with LLMockServer() as provider:
        spec = {"responses_api": True, "extra_params": {"stream": True}}
        answer = await attempt(order("openai/gpt-4o-mini", provider.base_url("openai"), **spec))
        assert len(provider.state.journal) == 1

    assert answer.choices[0].text
    assert answer.usage.completion_tokens > 0
