"""Whose tools a model may call: the caller's are answered by the caller, a provider's own by the provider itself."""

import json

import pytest
from temporalio.exceptions import ApplicationError

from durable_llm.contract.facts import AnswerDefect
from durable_llm.contract.request import Prompt
from durable_llm.contract.result import LLMResult
from tests.support.attempts import TOOLS, attempt, order, says
from tests.support.bodies import anthropic, choice, events, openai, sent
from tests.support.calls import completion
from tests.support.responses import CALL, TEXT, response
from tests.support.wire import playing

OPENAI, CLAUDE = "openai/gpt-4o-mini", "anthropic/claude-haiku-4-5"
SEARCHED = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
HOSTED = {"type": "web_search_20250305", "name": "web_search"}
FLAT = {"type": "function", **TOOLS[0]["function"]}
SEARCH_CALL = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
ASKED = {"role": "user", "content": "Weather in Rome?"}
TAGGED = '<tool_call>{"name": "get_weather", "arguments": {"city": "Rome"}}</tool_call>'
PRIME = {"type": "object", "properties": {"prime": {"type": "integer"}}, "required": ["prime"]}
PERSON = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}


def json_of(schema: dict) -> dict:
    """OpenAI's format for a schema."""
    return {"type": "json_schema", "json_schema": {"name": "it", "schema": schema}}


async def asked(body: dict | str, prompt: Prompt, model: str = OPENAI, headers: dict | None = None, **spec):
    """What an attempt makes of an answer, and the request that it made."""
    async with playing({"body": body, **({"headers": headers} if headers else {})}) as wire:
        try:
            outcome = await attempt(order(model, wire.url, **spec), prompt)
        except ApplicationError as error:
            outcome = error.details[0]
    [request] = wire.requests
    return outcome, sent(request)


def says_next(outcome, *messages: dict) -> Prompt:
    """The conversation that goes on from an answer."""
    result = LLMResult(choices=outcome.choices, provider=outcome.provider, response_id=outcome.response_id)
    return Prompt(messages=[ASKED, result.message(), *messages], tools=TOOLS)


@pytest.mark.parametrize("parameters", [{"web_search_options": {}}, {"tools": [HOSTED]}])
async def test_a_tool_that_claude_s_server_ran_is_no_call(parameters):
    """In litellm's list its use is one of the caller's calls, which would be rejected, or wait for a result that nobody has."""
    body = anthropic(SEARCHED, FOUND, {"type": "text", "text": "seven"})
    answer, _ = await asked(body, says(), CLAUDE, extra_params=parameters)

    assert (answer.choices[0].text, answer.choices[0].tool_calls) == ("seven", [])
    _, request = await asked(openai(), says_next(answer, ASKED))
    assert request["messages"][1] == {"role": "assistant", "content": "seven"}


async def test_a_streamed_one_is_none_either():
    """The id says it there too; a call of the caller's beside it stays."""
    message = {**anthropic(), "content": [], "stop_reason": None}
    uses = [SEARCHED, {"type": "tool_use", "id": "toolu_2", "name": "get_weather", "input": {}}]
    blocks = [
        event
        for index, use in enumerate(uses)
        for event in (
            {"type": "content_block_start", "index": index, "content_block": {**use, "input": {}}},
            {"type": "content_block_delta", "index": index,
             "delta": {"type": "input_json_delta", "partial_json": '{"city": "Rome"}'}},
            {"type": "content_block_stop", "index": index},
        )
    ]  # fmt: skip
    end = {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 3}}
    stream = events({"type": "message_start", "message": message}, *blocks, end, {"type": "message_stop"}, named=True)
    spec = {"extra_params": {"stream": True, "web_search_options": {}}}
    answer, _ = await asked(stream, says(tools=TOOLS), CLAUDE, {"content-type": "text/event-stream"}, **spec)

    assert [call.id for call in answer.choices[0].tool_calls] == ["toolu_2"]


async def test_a_search_of_the_provider_s_does_not_excuse_the_schema():
    """A model's own call stands instead of the JSON; what its provider did on the way does not."""
    body = anthropic(SEARCHED, FOUND, {"type": "text", "text": "not JSON at all"})
    prompt = says(response_format=json_of(PRIME))
    facts, _ = await asked(body, prompt, CLAUDE, extra_params={"web_search_options": {}})

    assert facts.answer_defect is AnswerDefect.NOT_THE_SCHEMA


@pytest.mark.parametrize("choice", ["auto", {"type": "function", "name": "get_weather"}])
async def test_tools_in_the_shape_of_responses_are_offered(choice):
    """There a function's name is the tool's own, and the choice's."""
    spec = {"responses_api": True, "extra_params": {"tools": [FLAT], "tool_choice": choice}}
    answer, request = await asked(response(CALL), says(), **spec)
    unknown, _ = await asked(response({**CALL, "name": "rm"}), says(), **spec)
    said, _ = await asked(response(TEXT), says(), **spec)

    assert request["tools"] == [FLAT]
    assert [call.function.name for call in answer.choices[0].tool_calls] == ["get_weather"]
    assert (unknown.answer_defect, unknown.text) == (
        AnswerDefect.UNKNOWN_TOOL, "calls 'rm'; offered: get_weather",
    )  # fmt: skip
    assert getattr(said, "answer_defect", None) == (None if choice == "auto" else AnswerDefect.NO_TOOL_CALL)


REQUIRED = [
    ("a tool of the provider's beside it", [{"type": "web_search"}, FLAT], "required", None),
    ("the same in chat's shape", [{"type": "web_search"}, TOOLS[0]], "required", None),
    ("functions only", [FLAT], "required", AnswerDefect.NO_TOOL_CALL),
    ("the function by name", [{"type": "web_search"}, FLAT], FLAT, AnswerDefect.NO_TOOL_CALL),
    ("the provider's by name", [{"type": "web_search"}, FLAT], {"type": "web_search"}, None),
]


@pytest.mark.parametrize(("tools", "choice", "defect"), [row[1:] for row in REQUIRED], ids=[row[0] for row in REQUIRED])
async def test_a_tool_of_the_provider_s_meets_a_demand(tools, choice, defect):
    """A search that the provider made is a use of a tool, of which the answer need not hold a call."""
    parameters = {"tools": tools, "tool_choice": choice}
    outcome, _ = await asked(response(SEARCH_CALL, TEXT), says(), responses_api=True, extra_params=parameters)

    assert getattr(outcome, "answer_defect", None) == defect


WITH_BODY = [
    (OPENAI, {}, {"tool_choice": "required", "parallel_tool_calls": False}),
    (OPENAI, {"responses_api": True}, {"tool_choice": "required", "parallel_tool_calls": False}),
    ("mistral/mistral-small-latest", {}, {"tool_choice": "required", "parallel_tool_calls": False}),
    ("gemini/gemini-2.5-flash", {}, {"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}, "tool_choice": None}),
]


@pytest.mark.parametrize(("model", "spec", "options"), WITH_BODY)
async def test_options_of_tools_go_with_tools_in_the_body(model, spec, options):
    """The tools are there, only not where litellm looks for them before it passes on a choice."""
    parameters = {"tool_choice": "required", "parallel_tool_calls": False, "extra_body": {"tools": TOOLS}}
    _, request = await asked({"error": "enough"}, says(), model, extra_params=parameters, **spec)

    assert request["tools"] == TOOLS
    assert {name: request.get(name) for name in options} == options


@pytest.mark.parametrize("parameters", [{}, {"extra_body": {"tools": TOOLS}}])
async def test_no_tool_means_none(parameters):
    """A server that calls one all the same has given a bad sample; no parser looks for calls either."""
    body = completion(None, ("get_weather", "{}"))
    prompt = says(tools=TOOLS, tool_choice="none", tool_parser="hermes")
    facts, _ = await asked(body, prompt, extra_params=parameters)
    plain, _ = await asked(completion(TAGGED), prompt, extra_params=parameters)

    assert (facts.answer_defect, facts.text) == (
        AnswerDefect.UNKNOWN_TOOL, "calls 'get_weather'; none was allowed",
    )  # fmt: skip
    assert (plain.choices[0].text, plain.choices[0].tool_calls) == (TAGGED, [])


NAMES_SOMEBODY = '{"name": "Bob", "age": 3}'


@pytest.mark.parametrize("prompt", [
    {"response_format": json_of(PERSON)}, {"response_format": json_of(PERSON), "tools": TOOLS}, {"tools": TOOLS},
    {"response_format": json_of({"type": "array"}), "tools": TOOLS},
])  # fmt: skip
async def test_json_with_a_name_in_it_is_no_call(prompt):
    """The parser takes what names a tool that was offered; the JSON of a person is the answer."""
    text = f"[{NAMES_SOMEBODY}]" if prompt.get("response_format", {}) == json_of({"type": "array"}) else NAMES_SOMEBODY
    answer, _ = await asked(completion(text), says(tool_parser="json", **prompt))

    assert (answer.choices[0].text, answer.choices[0].tool_calls) == (text, [])
    assert answer.structured is ("response_format" in prompt)


@pytest.mark.parametrize("tools", [TOOLS, [FLAT]])
@pytest.mark.parametrize("where", ["tools", "extra_body"])
async def test_a_parser_knows_the_spec_s_tools(tools, where):
    """They are offered as well as the prompt's, in either shape."""
    parameters = {"tools": tools} if where == "tools" else {"extra_body": {"tools": tools}}
    text = '{"name": "get_weather", "arguments": {"city": "Rome"}}'
    answer, _ = await asked(completion(text), says(tool_parser="json"), extra_params=parameters)

    assert [call.function.name for call in answer.choices[0].tool_calls] == ["get_weather"]
    assert answer.choices[0].finish_reason == "tool_calls"


async def test_a_parsed_call_s_conversation_goes_on_without_the_stored_response():
    """The provider keeps a response with a text; of the call that was found in it, it knows nothing."""
    text = {**TEXT, "content": [{"type": "output_text", "text": TAGGED, "annotations": []}]}
    answer, _ = await asked(response(text), says(tools=TOOLS, tool_parser="hermes"), responses_api=True)
    [call] = answer.choices[0].tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    _, request = await asked(response(TEXT), says_next(answer, result), responses_api=True)

    assert "previous_response_id" not in request
    kinds = ("function_call", "function_call_output")
    assert [item["call_id"] for item in request["input"] if item["type"] in kinds] == [call.id, call.id]
    assert "Weather in Rome?" in json.dumps(request["input"][0])


async def test_the_provider_s_own_call_goes_on_from_the_stored_response():
    """That one it knows by its id."""
    answer, _ = await asked(response(CALL), says(tools=TOOLS, tool_parser="hermes"), responses_api=True)
    result = {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}
    _, request = await asked(response(TEXT), says_next(answer, result), responses_api=True)

    assert request["previous_response_id"] == "resp_1"
    assert [item["type"] for item in request["input"]] == ["function_call_output"]


@pytest.mark.parametrize("finish", ["stop", "length"])
async def test_a_parsed_call_is_the_reason_to_stop(finish):
    """As for calls of the provider's kind; another reason is kept."""
    said = choice(finish_reason=finish, content=TAGGED)
    answer, _ = await asked(openai(said), says(tools=TOOLS, tool_parser="hermes"))

    assert answer.choices[0].finish_reason == ("tool_calls" if finish == "stop" else finish)
