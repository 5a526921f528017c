"""Tools: what each provider's wire is sent of them, and which tool calls are an answer."""

import json

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from durable_llm import LLMConfig, ModelSpec, Policy, RequestRejectedError, UnsupportedRequestError
from durable_llm.contract.facts import AnswerDefect
from durable_llm.contract.request import Prompt
from durable_llm.contract.result import PARSED_CALL
from tests.support.attempts import TOOLS, attempt, order, says
from tests.support.calls import completion, in_turn
from tests.support.wire import playing
from tests.support.workers import working

OPENAI = "openai/gpt-4o-mini"
ANTHROPIC = "anthropic/claude-haiku-4-5"
GEMINI = "gemini/gemini-3-pro-preview"
NAMED = {"type": "function", "function": {"name": "get_weather"}}
ROME = ("get_weather", '{"city": "Rome"}')


async def sent(model: str, prompt: Prompt, **extra_params) -> dict:
    """The request that an attempt makes, as JSON."""
    async with playing({"http_status": 400, "body": {"error": {"message": "enough"}}}) as wire:
        with pytest.raises(ApplicationError):
            await attempt(order(model, wire.url, extra_params=extra_params), prompt)
    [request] = wire.requests
    return json.loads(request.partition(b"\r\n\r\n")[2])


async def answered(body: dict, prompt: Prompt, **spec):
    """What an attempt makes of one answer of OpenAI's."""
    async with playing({"body": body}) as wire:
        try:
            return await attempt(order(OPENAI, wire.url, **spec), prompt)
        except ApplicationError as error:
            return error.details[0]


CHOICES = [
    (OPENAI, "none", {"tool_choice": "none"}),
    (OPENAI, "auto", {"tool_choice": "auto"}),
    (OPENAI, "required", {"tool_choice": "required"}),
    (OPENAI, NAMED, {"tool_choice": NAMED}),
    (ANTHROPIC, "none", {"tool_choice": {"type": "none"}}),
    (ANTHROPIC, "auto", {"tool_choice": {"type": "auto"}}),
    (ANTHROPIC, "required", {"tool_choice": {"type": "any"}}),
    (ANTHROPIC, NAMED, {"tool_choice": {"type": "tool", "name": "get_weather"}}),
    (GEMINI, "none", {"toolConfig": {"functionCallingConfig": {"mode": "NONE"}}}),
    (GEMINI, "auto", {"toolConfig": {"functionCallingConfig": {"mode": "AUTO"}}}),
    (GEMINI, "required", {"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}),
    (GEMINI, NAMED,
     {"toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowed_function_names": ["get_weather"]}}}),
    ("mistral/mistral-large-latest", "required", {"tool_choice": "any"}),
    ("mistral/mistral-large-latest", NAMED, {"tool_choice": NAMED}),
    ("openai/responses/gpt-4o-mini", NAMED, {"tool_choice": {"type": "function", "name": "get_weather"}}),
]  # fmt: skip


@pytest.mark.parametrize(("model", "choice", "on_the_wire"), CHOICES)
async def test_a_choice_of_tools_reaches_the_provider_in_its_own_words(model, choice, on_the_wire):
    """None, auto, required and one tool by name; the schemas go along."""
    body = await sent(model, says(tools=TOOLS, tool_choice=choice))

    assert {name: body.get(name) for name in on_the_wire} == on_the_wire
    assert "get_weather" in json.dumps(body["tools"])
    assert '"city"' in json.dumps(body["tools"])


@pytest.mark.parametrize(
    ("model", "on_the_wire"),
    [
        (OPENAI, {"parallel_tool_calls": False}),
        (ANTHROPIC, {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}),
    ],
)
async def test_parallel_calls_are_the_specs_to_forbid(model, on_the_wire):
    """`parallel_tool_calls` is a parameter of the spec, in the provider's words."""
    body = await sent(model, says(tools=TOOLS), parallel_tool_calls=False)

    assert {name: body.get(name) for name in on_the_wire} == on_the_wire


@pytest.mark.parametrize("tools", [None, []])
@pytest.mark.parametrize("model", [OPENAI, ANTHROPIC, GEMINI])
async def test_without_tools_nothing_of_tools_is_sent(model, tools):
    """An empty list is none; a reused spec's options of tools would be answered with a 400."""
    prompt = says(tools=tools, tool_choice="required" if tools == [] else None)
    body = await sent(model, prompt, tool_choice="auto", parallel_tool_calls=True)

    assert not {"tools", "tool_choice", "parallel_tool_calls", "toolConfig"} & set(body)


async def test_an_empty_list_of_tools_gives_an_answer_without_calls(server_env: WorkflowEnvironment) -> None:
    """As in lmi: nothing is sent of it, nothing is demanded, and `tool_calls` is an empty list."""
    async with in_turn(completion("seven")) as wire, working(server_env.client) as dispatcher:
        result = await dispatcher.call(
            ModelSpec(name=OPENAI, api_base=wire.url), "Name a prime.", tools=[], tool_choice="required"
        )
    assert (result.text, result.tool_calls, result.attempts_total) == ("seven", [], 1)


CONVERSATION = [
    {"role": "user", "content": "Weather in Rome and Oslo?"},
    {"role": "assistant", "content": None, "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'}},
        {"id": "c2", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}},
    ]},
    {"role": "tool", "tool_call_id": "c1", "name": "get_weather", "content": "sunny"},
    {"role": "tool", "tool_call_id": "c2", "name": "get_weather", "content": "snow"},
]  # fmt: skip


async def test_tool_results_reach_openai_as_they_are():
    """A message of role tool for each call."""
    messages = (await sent(OPENAI, Prompt(messages=CONVERSATION, tools=TOOLS)))["messages"]

    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool"]
    assert messages[1]["tool_calls"] == CONVERSATION[1]["tool_calls"]
    assert (messages[3]["tool_call_id"], messages[3]["content"]) == ("c2", "snow")


async def test_tool_results_reach_anthropic_in_one_turn_of_the_user():
    """Anthropic refuses results that are spread over several turns."""
    messages = (await sent(ANTHROPIC, Prompt(messages=CONVERSATION, tools=TOOLS)))["messages"]

    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    results = [(part["type"], part["tool_use_id"], part["content"]) for part in messages[2]["content"]]
    assert results == [("tool_result", "c1", "sunny"), ("tool_result", "c2", "snow")]


@pytest.mark.parametrize("model", [GEMINI, "gemini/gemini-2.5-flash"])
async def test_tool_results_reach_gemini_as_the_users(model):
    """Gemini 3 refuses the role tool: the results are function responses in a turn of the user."""
    contents = (await sent(model, Prompt(messages=CONVERSATION, tools=TOOLS)))["contents"]

    assert [content["role"] for content in contents] == ["user", "model", "user"]
    responses = [part["function_response"]["response"] for part in contents[2]["parts"]]
    assert responses == [{"content": "sunny"}, {"content": "snow"}]


@pytest.mark.parametrize("model", [OPENAI, ANTHROPIC])
async def test_an_empty_list_of_calls_in_a_message_is_left_out(model):
    """OpenAI refuses it; for Anthropic litellm would offer a tool that it made up."""
    said = {"role": "assistant", "content": "Let me think.", "tool_calls": []}
    body = await sent(model, Prompt(messages=[CONVERSATION[0], said, CONVERSATION[0]]))

    assert "tool" not in json.dumps(body)


JUDGED = [
    ("known", completion(None, ROME, ROME), {}, None),
    ("unknown", completion(None, ("get_wether", "{}")), {}, AnswerDefect.UNKNOWN_TOOL),
    ("one of two is unknown", completion(None, ROME, ("rm", "{}")), {}, AnswerDefect.UNKNOWN_TOOL),
    ("no name", completion(None, ("", "{}")), {}, AnswerDefect.UNKNOWN_TOOL),
    ("no tools at all", completion(None, ROME), {"tools": None}, AnswerDefect.UNKNOWN_TOOL),
    ("arguments", completion(None, ("get_weather", "{city: Rome}")), {}, AnswerDefect.INVALID_TOOL_ARGUMENTS),
    ("required, and said", completion("Sunny."), {"tool_choice": "required"}, AnswerDefect.NO_TOOL_CALL),
    ("named, and said", completion("Sunny."), {"tool_choice": NAMED}, AnswerDefect.NO_TOOL_CALL),
    ("another than the named", completion(None, ("add", "{}")), {"tool_choice": NAMED}, AnswerDefect.UNKNOWN_TOOL),
    ("required, and refused", completion(None, refusal="No."), {"tool_choice": "required"}, AnswerDefect.REFUSAL),
    ("auto, and said", completion("Sunny."), {"tool_choice": "auto"}, None),
]


@pytest.mark.parametrize(("body", "prompt", "defect"), [row[1:] for row in JUDGED], ids=[row[0] for row in JUDGED])
async def test_calls_are_held_against_what_was_offered(body, prompt, defect):
    """A call of no tool of the request, and none where one was demanded, are bad samples; their cost is kept."""
    add = {"type": "function", "function": {"name": "add"}}
    outcome = await answered(body, says(**{"tools": [*TOOLS, add], **prompt}))

    assert getattr(outcome, "answer_defect", None) == defect
    assert outcome.cost > 0


async def test_a_specs_own_tools_count():
    """Tools may ride in `extra_params`; with tools of the provider's own nobody knows all names."""
    body = completion(None, ROME)

    assert (await answered(body, says(), extra_params={"tools": TOOLS})).choices[0].tool_calls
    assert (await answered(body, says(), extra_params={"extra_body": {"tools": TOOLS}})).choices[0].tool_calls
    assert (await answered(body, says(), extra_params={"web_search_options": {}})).choices[0].tool_calls


async def test_a_bad_call_is_sampled_again(server_env: WorkflowEnvironment) -> None:
    """First a tool that nobody offered, then arguments that are no JSON: the third answer is the call's."""
    bodies = (completion(None, ("rm", "{}")), completion(None, ("get_weather", "{")), completion(None, ROME))
    quick = Policy(backoff_initial=0.01)
    async with in_turn(*bodies) as wire, working(server_env.client) as dispatcher:
        result = await dispatcher.call(
            ModelSpec(name=OPENAI, api_base=wire.url), "Weather in Rome?", tools=TOOLS, tool_choice="auto", policy=quick
        )
    assert result.tool_calls[0].function.parsed_arguments() == {"city": "Rome"}
    first, second, _ = result.attempts
    assert (first.category, first.rule) == ("bad_sample", "tool-calls")
    assert "calls 'rm'; offered: get_weather" in first.message
    assert (second.category, second.rule) == ("bad_sample", "tool-arguments")
    assert result.total_cost == pytest.approx(3 * result.cost)


TAGGED = 'I will look.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>'
PARSED = [
    ("hermes", TAGGED, None),
    ("hermes", TAGGED.removesuffix("</tool_call>"), None),
    ("hermes", TAGGED.replace("arguments", "parameters"), None),
    ("hermes", TAGGED.replace("get_weather", "rm"), AnswerDefect.UNKNOWN_TOOL),
    ("hermes", "<tool_call>get_weather(Rome)</tool_call>", AnswerDefect.REJECTED),
    ("hermes", '<tool_call>["get_weather"]</tool_call>', AnswerDefect.REJECTED),
    ("hermes", '<tool_call>{"name": "get_weather", "arguments": [1]}</tool_call>', AnswerDefect.INVALID_TOOL_ARGUMENTS),
    ("json", '{"name": "get_weather", "arguments": {"city": "Rome"}}', None),
    ("json", '```json\n[{"name": "get_weather", "arguments": "{\\"city\\": \\"Rome\\"}"}]\n```', None),
]


@pytest.mark.parametrize(("parser", "text", "defect"), PARSED)
async def test_tool_calls_written_as_text_are_parsed(parser, text, defect):
    """A parser's calls are checked like a provider's own; the text stays as the model wrote it."""
    outcome = await answered(completion(text), says(tools=TOOLS, tool_parser=parser))

    assert getattr(outcome, "answer_defect", None) == defect
    if defect is None:
        [choice] = outcome.choices
        [call] = choice.tool_calls
        assert (call.function.name, call.function.parsed_arguments()) == ("get_weather", {"city": "Rome"})
        assert call.id.startswith(PARSED_CALL)
        assert len(call.id) <= 40
        assert choice.text == text


@pytest.mark.parametrize("parser", ["json", "hermes"])
async def test_a_text_without_calls_is_an_answer(parser):
    """A parser finds nothing in plain words, and is not asked where the provider sent calls of its own."""
    plain = await answered(completion("It is sunny."), says(tools=TOOLS, tool_parser=parser))
    native = await answered(completion("<tool_call>", ROME), says(tools=TOOLS, tool_parser=parser))

    assert (plain.choices[0].text, plain.choices[0].tool_calls) == ("It is sunny.", [])
    assert [call.id for call in native.choices[0].tool_calls] == ["c0"]


async def test_a_parser_is_named_in_the_config(server_env: WorkflowEnvironment) -> None:
    """The shape is that of lmi, with a name for the function; one that the worker does not have ends the call unsent."""
    async with in_turn(completion(TAGGED)) as wire, working(server_env.client) as dispatcher:
        shape = {"name": OPENAI, "api_base": wire.url, "tool_parser": "hermes"}
        result = await dispatcher.call(shape, "Weather in Rome?", tools=TOOLS)
        chain = LLMConfig(models=[ModelSpec(name=OPENAI, api_base=wire.url)] * 2, tool_parser="pythonic")
        with pytest.raises(UnsupportedRequestError, match="no tool parser 'pythonic'; it has hermes, json") as caught:
            await dispatcher.call(chain, "Weather in Rome?", tools=TOOLS)
    assert result.tool_calls[0].function.name == "get_weather"
    [entry] = caught.value.attempts
    assert (entry.category, entry.decision, entry.cost) == ("misconfigured", "fail", 0.0)
    assert len(wire.requests) == 1


@pytest.mark.parametrize("shape", [
    {"models": [{"name": OPENAI}], "tool_parser": "json"},
    {"model_list": [{"model_name": "x", "litellm_params": {"model": OPENAI}}], "tool_parser": "json"},
    {"name": OPENAI, "tool_parser": "json"},
])  # fmt: skip
def test_each_of_lmis_shapes_may_name_a_parser(shape):
    """It is a field of the chain, and survives `with_extra_params`."""
    from durable_llm.client.new_call import to_config

    config = to_config(shape).with_extra_params(seed=1)
    assert (config.tool_parser, config.models[0].extra_params["seed"]) == ("json", 1)


async def test_a_call_that_no_model_would_take_is_told_by_the_provider(server_env: WorkflowEnvironment) -> None:
    """What only the provider can check of a tool is its 400: the call ends with its words."""
    body = {"error": {"message": "Invalid schema for function 'get_weather'", "code": "invalid_function_parameters"}}
    async with playing({"http_status": 400, "body": body}) as wire, working(server_env.client) as dispatcher:
        with pytest.raises(RequestRejectedError, match="Invalid schema for function"):
            await dispatcher.call(ModelSpec(name=OPENAI, api_base=wire.url), "Weather?", tools=TOOLS)
