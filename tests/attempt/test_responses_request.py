"""What goes out to the Responses API: chat's messages, tools and parameters in that API's words."""

import json
from contextlib import suppress

import pytest
from llmock.scenarios import Reply, ToolCall
from llmock.testing import LLMockServer
from temporalio.exceptions import ApplicationError

from durable_llm.contract.facts import LocalFault
from durable_llm.contract.request import Prompt
from tests.support.attempts import TOOLS, attempt, order
from tests.support.responses import TEXT, response
from tests.support.wire import playing

MODEL = "openai/gpt-4o-mini"
IMAGE = "data:image/png;base64,iVBORw0KGgo="
SYSTEM = {"role": "system", "content": "Be terse."}
ASKED = {"role": "user", "content": "Name a prime."}
SAID = {"role": "assistant", "content": "Two.", "response_id": "resp_1"}
AGAIN = {"role": "user", "content": "A larger one."}


def user(*parts: dict) -> dict:
    """A user's message as that API has it."""
    return {"type": "message", "role": "user", "content": list(parts)}


def text(said: str) -> dict:
    """A part of a question."""
    return {"type": "input_text", "text": said}


async def sent(*messages: dict, model: str = MODEL, all_messages: bool = False, prompt=None, **extra_params) -> dict:
    """The body of the one request that an attempt sends."""
    async with playing({"body": response(TEXT)}) as wire:
        asked = order(model, wire.url, responses_api=True, extra_params=extra_params)
        asked = asked.model_copy(update={"all_messages": all_messages})
        with suppress(ApplicationError):  # the answer is always the same, and not what every request asks for
            await attempt(asked, Prompt(messages=list(messages) or [ASKED], **(prompt or {})))
    [request] = wire.requests
    return json.loads(request.partition(b"\r\n\r\n")[2])


async def test_a_whole_conversation_is_converted():
    """System prompt, images, files, tool calls and their results, under the ids that tie them together."""
    called = {"id": "call_7", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'}}
    body = await sent(
        SYSTEM,
        {"role": "user", "content": [
            {"type": "text", "text": "What is this?", "cache_control": {"type": "ephemeral"}},
            {"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}},
            {"type": "image_url", "image_url": "https://example.com/a.png"},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
        ]},
        {"role": "assistant", "content": "Let me see.", "tool_calls": [called], "thinking_blocks": [{"signature": "x"}]},
        {"role": "tool", "tool_call_id": "call_7", "content": "sunny"},
        {"role": "developer", "content": "In one word."},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Sun."}]},
        {"role": "assistant", "content": None, "refusal": "No more."},
        {"role": "tool", "tool_call_id": "call_8", "content": [{"type": "image_url", "image_url": {"url": IMAGE}}]},
        AGAIN,
    )  # fmt: skip

    assert (body["instructions"], body["store"]) == ("Be terse.", True)
    assert body["input"] == [
        user(
            text("What is this?"),
            {"type": "input_image", "image_url": IMAGE, "detail": "low"},
            {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "auto"},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="},
        ),
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]},
        {"type": "function_call", "call_id": "call_7", "name": "get_weather", "arguments": '{"city": "Rome"}'},
        {"type": "function_call_output", "call_id": "call_7", "output": "sunny"},
        {"type": "message", "role": "developer", "content": [text("In one word.")]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Sun."}]},
        {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No more."}]},
        {"type": "function_call_output", "call_id": "call_8",
         "output": [{"type": "input_image", "image_url": IMAGE, "detail": "auto"}]},
        user(text("A larger one.")),
    ]  # fmt: skip


async def test_a_conversation_goes_on_from_the_stored_response():
    """The newest response is named and only what follows it is sent; the system prompt is not handed on, so it goes."""
    older = {**SAID, "response_id": "resp_0"}
    body = await sent(SYSTEM, ASKED, older, AGAIN, SAID, AGAIN)

    assert body["previous_response_id"] == "resp_1"
    assert body["input"] == [user(text("A larger one."))]
    assert body["instructions"] == "Be terse."


async def test_tool_results_go_on_from_the_response_that_called():
    """The stored response has the call; only its result is sent."""
    called = {**SAID, "tool_calls": [{"id": "call_7", "function": {"name": "get_weather", "arguments": "{}"}}]}
    body = await sent(ASKED, called, {"role": "tool", "tool_call_id": "call_7", "content": "sunny"})

    assert body["previous_response_id"] == "resp_1"
    assert body["input"] == [{"type": "function_call_output", "call_id": "call_7", "output": "sunny"}]


SENT_WHOLE = [
    ({"store": False}, {}, "it was not to be stored"),
    ({"extra_body": {"store": False}}, {}, "it was not to be stored"),
    ({}, {"provider": "azure"}, "another provider has it"),
    ({}, {"response_id": "chatcmpl-1"}, "it is an id of Chat Completions"),
    ({}, {"response_id": None}, "there is none"),
]


@pytest.mark.parametrize(("extra_params", "said", "why"), SENT_WHOLE, ids=[why for *_, why in SENT_WHOLE])
async def test_a_response_that_cannot_be_known_is_not_named(extra_params, said, why):
    """Every message is sent instead."""
    body = await sent(ASKED, {**SAID, **said}, AGAIN, **extra_params)

    assert "previous_response_id" not in body
    assert [item["role"] for item in body["input"]] == ["user", "assistant", "user"]


async def test_the_newest_response_that_the_provider_knows_is_named():
    """What another model said after it is sent along."""
    elsewhere = {"role": "assistant", "content": "Three.", "response_id": "msg_1", "provider": "anthropic"}
    body = await sent(ASKED, {**SAID, "provider": "openai"}, AGAIN, elsewhere, AGAIN)

    assert body["previous_response_id"] == "resp_1"
    assert [item["role"] for item in body["input"]] == ["user", "assistant", "user"]


async def test_a_response_that_the_provider_lost_is_not_named_again():
    """The order says so, and every message is sent."""
    body = await sent(ASKED, SAID, AGAIN, all_messages=True)

    assert "previous_response_id" not in body
    assert len(body["input"]) == 3


async def test_there_is_always_something_to_answer():
    """A response that nothing follows is no beginning, an older one is; a system prompt alone is the question."""
    assert [item["role"] for item in (await sent(ASKED, SAID))["input"]] == ["user", "assistant"]
    assert (await sent(ASKED, {**SAID, "response_id": "resp_0"}, AGAIN, SAID))["previous_response_id"] == "resp_0"
    alone = await sent(SYSTEM)
    assert [item["role"] for item in alone["input"]] == ["system"]
    assert "instructions" not in alone


async def test_system_prompts_are_joined():
    """The spec's own instructions come first; parts of text are text."""
    parts = {"role": "developer", "content": [{"type": "text", "text": "In "}, {"type": "text", "text": "Latin."}]}
    body = await sent(SYSTEM, parts, ASKED, instructions="Be kind.")

    assert body["instructions"] == "Be kind.\n\nBe terse.\n\nIn Latin."
    assert len(body["input"]) == 1


async def test_tools_are_converted():
    """A function's fields are the tool's own; not strict unless it says so; that API's own tools pass."""
    strict = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}
    choice = {"type": "function", "function": {"name": "f"}}
    prompt = {"tools": [*TOOLS, strict, {"type": "web_search"}], "tool_choice": choice}
    body = await sent(prompt=prompt, parallel_tool_calls=False)

    assert [(tool["type"], tool.get("name"), tool.get("strict")) for tool in body["tools"]] == [
        ("function", "get_weather", False), ("function", "f", True), ("web_search", None, None),
    ]  # fmt: skip
    assert body["tools"][0]["parameters"] == TOOLS[0]["function"]["parameters"]
    assert body["tool_choice"] == {"type": "function", "name": "f"}
    assert body["parallel_tool_calls"] is False


@pytest.mark.parametrize("choice", ["none", "auto", "required"])
async def test_a_tool_choice_in_a_word_is_the_same_word(choice):
    """Both APIs have the three."""
    assert (await sent(prompt={"tools": TOOLS, "tool_choice": choice}))["tool_choice"] == choice


SCHEMA = {"name": "prime", "schema": {"type": "object"}, "strict": True}
PARAMETERS = [
    ({"max_tokens": 30}, {"max_output_tokens": 30}),
    ({"max_completion_tokens": 40, "max_tokens": 30}, {"max_output_tokens": 40}),
    ({"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}),
    ({"logprobs": True, "top_logprobs": 2}, {"include": ["message.output_text.logprobs"], "top_logprobs": 2}),
    ({"verbosity": "low"}, {"text": {"verbosity": "low"}}),
    ({"response_format": {"type": "json_object"}}, {"text": {"format": {"type": "json_object"}}}),
    (
        {"response_format": {"type": "json_schema", "json_schema": SCHEMA}, "text": {"verbosity": "low"}},
        {"text": {"verbosity": "low", "format": {"type": "json_schema", **SCHEMA}}},
    ),
    ({"stop": ["x"], "seed": 7}, {"stop": ["x"], "seed": 7}),
    ({"extra_body": {"future": 1}}, {"future": 1}),
    ({"n": 2}, {"n": 2}),
]


@pytest.mark.parametrize(("given", "expected"), PARAMETERS)
async def test_parameters_get_that_api_s_names(given, expected):
    """What has no counterpart is sent as it is, for the provider to refuse: nothing is dropped in silence."""
    format_ = {name: given[name] for name in ("response_format",) if name in given}
    body = await sent(prompt=format_, **{name: value for name, value in given.items() if name not in format_})

    assert {name: body[name] for name in expected} == expected
    assert not set(given) - set(expected) & set(body)


async def test_reasoning_is_one_object():
    """An effort joins what is said of the summary."""
    body = await sent(model="openai/gpt-5-mini", reasoning_effort="low", reasoning={"summary": "auto"})

    assert body["reasoning"] == {"effort": "low", "summary": "auto"}


async def test_one_choice_is_all_that_there_is():
    """`n: 1` is not sent; that API does not know it."""
    assert "n" not in await sent(n=1)


@pytest.mark.parametrize("message", [
    {"role": "function", "name": "f", "content": "x"},
    {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
])  # fmt: skip
async def test_what_has_no_counterpart_is_said(message):
    """What only chat had is refused before anything is sent, and another model may take it."""
    with pytest.raises(ApplicationError) as raised:
        await attempt(order(MODEL, "http://127.0.0.1:9", responses_api=True), Prompt(messages=[message]))
    facts = raised.value.details[0]
    assert (facts.local_fault, facts.text.partition(":")[0]) == (LocalFault.REQUEST_NOT_BUILT, "messages[0]")


async def test_chat_is_not_sent_where_an_answer_is_from():
    """Other APIs refuse fields that they do not know."""
    body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}  # fmt: skip
    async with playing({"body": body}) as wire:
        await attempt(order(MODEL, wire.url), Prompt(messages=[ASKED, {**SAID, "provider": "openai"}, AGAIN]))
    [request] = wire.requests

    assert json.loads(request.partition(b"\r\n\r\n")[2])["messages"][1] == {"role": "assistant", "content": "Two."}


async def test_a_provider_s_tool_call_is_answered_to():
    """There and back against a server that speaks the API: the result goes to the call, after the response."""
    with LLMockServer() as provider:
        base = provider.base_url("openai")
        provider.state.scenarios.add(Reply(tool_calls=(ToolCall("get_weather", {"city": "Rome"}),)))
        first = await attempt(order(MODEL, base, responses_api=True), Prompt(messages=[ASKED], tools=TOOLS))
        [call] = first.choices[0].tool_calls
        said = {"role": "assistant", "tool_calls": [call.model_dump()], "response_id": first.response_id}
        result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
        second = await attempt(
            order(MODEL, base, responses_api=True), Prompt(messages=[ASKED, said, result], tools=TOOLS)
        )
        begun, gone_on = (record.body for record in provider.state.journal.records())

    assert first.choices[0].finish_reason == "tool_calls"
    assert second.choices[0].text
    assert "previous_response_id" not in begun
    assert gone_on["previous_response_id"] == first.response_id
    assert gone_on["input"] == [{"type": "function_call_output", "call_id": call.id, "output": "sunny"}]


PRIME = {"type": "json_schema", "json_schema": {"name": "prime", "schema": {
    "type": "object", "properties": {"prime": {"type": "integer"}}, "required": ["prime"]}}}  # fmt: skip


@pytest.mark.parametrize("before", [[ASKED], [SYSTEM, ASKED]], ids=["no system prompt", "a system prompt"])
async def test_the_word_about_json_is_sent_with_every_response(before):
    """A system message in the middle is not sent where a conversation goes on from a stored response."""
    middle = {"role": "system", "content": "In between."}
    body = await sent(*before, middle, SAID, AGAIN, model="openai/qwen3", prompt={"response_format": PRIME})

    assert body["previous_response_id"] == "resp_1"
    assert "follows this JSON schema" in body["instructions"]
    assert body["instructions"].startswith("Be terse.") == (before[0] == SYSTEM)


async def test_json_mode_is_named_in_the_input():
    """There the system prompt is no part of the input, in which JSON mode wants the word; said once is enough."""
    mode = {"response_format": {"type": "json_object"}}
    word = {"type": "message", "role": "system", "content": [text("Respond with JSON.")]}
    told = {"role": "system", "content": "Answer in JSON."}

    assert (await sent(told, ASKED, prompt=mode))["input"][0] == word
    assert len((await sent(told, {"role": "user", "content": "As JSON."}, prompt=mode))["input"]) == 1
    assert len((await sent(ASKED, prompt=mode))["input"]) == 1


async def test_what_another_provider_wrote_is_sent_as_it_can_be_read():
    """Ids of at most 64 characters without Google's signatures, and a spoken answer as its words."""
    signed, long = "call_7__thought__" + "S" * 300, "call_" + "x" * 70
    calls = [{"id": id_, "type": "function", "function": {"name": "f", "arguments": "{}"}} for id_ in (signed, long)]
    spoken = {"role": "assistant", "content": None, "audio": {"id": "a1", "transcript": "Two."}, "provider": "openai"}
    body = await sent(
        ASKED,
        {"role": "assistant", "content": None, "tool_calls": calls, "provider": "gemini"},
        *({"role": "tool", "tool_call_id": call["id"], "content": "x"} for call in calls),
        spoken,
        AGAIN,
    )
    ids = [item["call_id"] for item in body["input"] if "call_id" in item]

    assert ids[:2] == ids[2:]
    assert ids[0] == "call_7"
    assert len(ids[1]) == 64
    assert body["input"][-2]["content"] == [{"type": "output_text", "text": "Two."}]


async def test_an_id_of_that_api_is_sent_as_it_is():
    """It may be longer than chat's: the stored response knows the call by it."""
    result = {"role": "tool", "tool_call_id": "call_" + "x" * 50, "content": "sunny"}
    body = await sent(ASKED, SAID, result)

    assert body["input"][0]["call_id"] == result["tool_call_id"]
