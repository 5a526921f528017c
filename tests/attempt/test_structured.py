"""Structured output: how each provider is asked for JSON, and which texts are the JSON that was asked for."""

import json
import time
from datetime import timedelta
from enum import Enum
from itertools import pairwise
from typing import Literal

import pytest
from pydantic import BaseModel, Field
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from activities.request.strict_schema import strict_schema
from activities.validation.schema import read_and_check, read_json
from durable_llm import AllModelsExhaustedError, LLMConfig, ModelSpec, Policy, RequestRejectedError
from durable_llm.client.prompt import to_prompt
from durable_llm.contract.facts import AnswerDefect, LocalFault
from durable_llm.contract.request import Prompt
from durable_llm.contract.validation import Rejected
from tests.support.attempts import TOOLS, attempt, environment, order
from tests.support.calls import completion, in_turn
from tests.support.wire import playing
from tests.support.workers import working

OPENAI = "openai/gpt-4o-mini"
QUICK = Policy(backoff_initial=0.01)


class Prime(BaseModel):
    """A model whose second field need not be said."""

    prime: int
    why: str = Field("", max_length=40)


CLOSED = {
    "type": "object",
    "description": "A model whose second field need not be said.",
    "title": "Prime",
    "properties": {
        "prime": {"type": "integer", "title": "Prime"},
        "why": {"type": "string", "title": "Why", "description": "(maxLength: 40)"},
    },
    "required": ["prime", "why"],
    "additionalProperties": False,
}
FREE = {"type": "object", "title": "Counts", "additionalProperties": {"type": "integer"}}


def asked(response_format, **prompt) -> Prompt:
    """A prompt that asks for a format."""
    return to_prompt([{"role": "user", "content": "Name a prime."}], response_format=response_format, **prompt)


async def sent(model: str, prompt: Prompt, **spec) -> dict:
    """The request that an attempt makes, as JSON."""
    async with playing({"http_status": 400, "body": {"error": {"message": "enough"}}}) as wire:
        with pytest.raises(ApplicationError):
            await attempt(order(model, wire.url, **spec), prompt)
    [request] = wire.requests
    return json.loads(request.partition(b"\r\n\r\n")[2])


async def answered(content: str | None, prompt: Prompt, *calls, **message):
    """What an attempt makes of one text."""
    async with playing({"body": completion(content, *calls, **message)}) as wire:
        try:
            return await attempt(order(OPENAI, wire.url), prompt)
        except ApplicationError as error:
            return error.details[0]


STRICT = [
    (OPENAI, lambda body: body["response_format"]["json_schema"]["schema"]),
    ("azure/gpt-4o", lambda body: body["response_format"]["json_schema"]["schema"]),
    ("mistral/mistral-large-latest", lambda body: body["response_format"]["json_schema"]["schema"]),
    ("groq/openai/gpt-oss-120b", lambda body: body["response_format"]["json_schema"]["schema"]),
    ("openrouter/anthropic/claude-sonnet-4.5", lambda body: body["response_format"]["json_schema"]["schema"]),
    ("fireworks_ai/x", lambda body: body["response_format"]["json_schema"]["schema"]),
    ("anthropic/claude-haiku-4-5", lambda body: body["output_format"]["schema"]),
    ("gemini/gemini-2.5-flash", lambda body: body["generationConfig"]["response_json_schema"]),
    ("openai/responses/gpt-4o-mini", lambda body: body["text"]["format"]["schema"]),
    (
        "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        lambda body: json.loads(body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]["schema"]),
    ),
]


@pytest.mark.parametrize(("model", "schema"), STRICT, ids=[row[0] for row in STRICT])
async def test_a_strict_mode_gets_the_closed_schema(model, schema):
    """Every object closed, every property demanded, and nothing of it in the prompt."""
    body = await sent(model, asked(Prime))

    assert schema(body) == CLOSED
    assert "JSON schema" not in json.dumps(body.get("messages") or body.get("contents") or body["input"])


async def test_openais_strict_mode_is_switched_on():
    """The format says `strict`, and has a name that OpenAI takes."""
    body = await sent(OPENAI, asked({**FREE, "title": "Two words", "additionalProperties": False, "properties": {}}))

    assert body["response_format"]["json_schema"]["strict"] is True
    assert body["response_format"]["json_schema"]["name"] == "Two_words"


JSON_MODE = [
    ("openai/qwen3:8b", Prime, {"type": "json_object"}),
    ("openai/gpt-3.5-turbo", Prime, {"type": "json_object"}),
    ("deepseek/deepseek-chat", Prime, {"type": "json_object"}),
    ("groq/llama-3.3-70b-versatile", Prime, {"type": "json_object"}),
    ("openrouter/openai/gpt-4o-mini", Prime, {"type": "json_object"}),
    ("xai/grok-4", Prime, {"type": "json_object"}),
    ("together_ai/x/y", Prime, {"type": "json_object"}),
    (OPENAI, FREE, {"type": "json_object"}),
    (OPENAI, {"type": "array", "items": {"type": "integer"}}, None),
    ("anthropic/claude-3-haiku-20240307", Prime, None),
    ("anthropic/claude-opus-4-1", Prime, None),
    ("cohere_chat/command-r", Prime, None),
]


@pytest.mark.parametrize(("model", "schema", "mode"), JSON_MODE)
async def test_elsewhere_the_system_prompt_tells_of_the_schema(model, schema, mode):
    """JSON mode where there is one and an object is wanted; the caller's own schema in the system prompt."""
    body = await sent(model, asked(schema))

    assert body.get("response_format") == mode
    assert not {"tools", "tool_choice", "output_format"} & set(body)
    wanted = schema.model_json_schema() if schema is Prime else schema
    told = body.get("system") or body["messages"][:1]
    assert json.dumps(json.dumps(wanted))[1:-1] in json.dumps(told)


LOCAL = [("hosted_vllm/x", "response_format"), ("ollama_chat/qwen3", "format"), ("lm_studio/x", "response_format")]


@pytest.mark.parametrize(("model", "field"), LOCAL)
async def test_servers_that_decode_along_a_schema_get_it_whatever_the_model(model, field):
    """The table of litellm knows models; these servers take a schema for any, and as it was written."""
    body = await sent(model, asked(FREE))

    assert FREE in (body[field], body[field].get("json_schema", {}).get("schema"))
    assert "JSON schema" not in json.dumps(body["messages"])


async def test_a_system_prompt_of_the_callers_is_kept():
    """The schema is told at its end, be it a text or a list of parts; the callers' message is first."""
    for content in ("Be brief.", [{"type": "text", "text": "Be brief."}]):
        messages = [{"role": "system", "content": content}, {"role": "user", "content": "Name a prime."}]
        [system, user] = (await sent("openai/qwen3", to_prompt(messages, response_format=Prime)))["messages"]
        text = system["content"] if isinstance(content, str) else "\n\n".join(p["text"] for p in system["content"])
        assert text.startswith("Be brief.\n\nRespond with JSON")
        assert user == messages[1]


async def test_a_strict_that_the_caller_wrote_is_kept():
    """Who writes OpenAI's whole dict knows the provider's rules; other formats pass as they are."""
    written = {"type": "json_schema", "json_schema": {"name": "counts", "strict": False, "schema": FREE}}
    assert (await sent(OPENAI, asked(written)))["response_format"] == written
    for kind in ("json_object", "text"):
        assert (await sent(OPENAI, asked({"type": kind})))["response_format"] == {"type": kind}


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Leaf(BaseModel):
    kind: Literal["leaf"] = "leaf"
    colour: Colour


class Node(BaseModel):
    kind: Literal["node"] = "node"
    children: list["Node"] = []
    leaf: Leaf | None = None


class Either(BaseModel):
    item: Leaf | Node = Field(discriminator="kind")


class Free(BaseModel):
    counts: dict[str, int]


UNFIT = [
    {"type": "object"},
    {"type": "object", "properties": {"a": {"type": "string"}}},
    {"type": "object", "properties": {"a": {"type": "object"}}, "required": ["a"]},
    {"type": "object", "properties": {"a": True}, "required": ["a"]},
    {"type": "object", "properties": {}, "additionalProperties": True},
    {"type": "object", "properties": {}, "patternProperties": {"^x": {"type": "string"}}},
    {"type": "object", "properties": {"a": {"allOf": [{"type": "string"}]}}, "required": ["a"]},
    {"type": "array", "items": {"type": "string"}},
    {"anyOf": [{"type": "object", "properties": {}}]},
    {"$ref": "#/$defs/Nowhere"},
    Free.model_json_schema(),
]


@pytest.mark.parametrize("schema", UNFIT)
def test_a_schema_whose_meaning_would_change_has_no_strict_form(schema):
    """Free keys, properties whose absence means something, and combinations are for the JSON mode."""
    assert strict_schema(schema) is None


@pytest.mark.parametrize("kind", [Prime, Leaf, Node, Either])
def test_a_strict_form_demands_all_and_closes_all(kind):
    """Whatever fits the strict form, written in full, fits the caller's schema too."""
    strict = strict_schema(kind.model_json_schema())
    text = json.dumps(strict)

    def objects(node):
        if isinstance(node, dict):
            if node.get("type") == "object":
                yield node
            for inner in node.values():
                yield from objects(inner)
        elif isinstance(node, list):
            for inner in node:
                yield from objects(inner)

    found = list(objects(strict))
    assert strict["type"] == "object"
    assert found
    assert all(node["additionalProperties"] is False for node in found)
    assert all(node["required"] == list(node["properties"]) for node in found)
    assert not any(f'"{keyword}"' in text for keyword in ("default", "oneOf", "discriminator", "maxLength"))


def test_an_answer_in_strict_form_is_an_instance():
    """A recursive model: what its strict form demands is what pydantic reads."""
    strict = strict_schema(Node.model_json_schema())
    tree = {"kind": "node", "children": [{"kind": "node", "children": [], "leaf": None}], "leaf": None}

    read_and_check(json.dumps(tree), json.dumps(strict))
    assert Node.model_validate(tree).children[0].leaf is None


GOOD = '{"prime": 7}'
TEXTS = [
    (GOOD, GOOD),
    (f"\n {GOOD}\n", GOOD),
    (f"```json\n{GOOD}\n```", GOOD),
    (f"```\n{GOOD}```", GOOD),
    (f"Here you are:\n\n```json\n{GOOD}\n```\nAnything else?", GOOD),
    ('{"prime": 7, "why": "```json\\n{}\\n```"}', '{"prime": 7, "why": "```json\\n{}\\n```"}'),
]


@pytest.mark.parametrize(("text", "bare"), TEXTS)
async def test_the_text_is_the_json_alone(text, bare):
    """A fence around it, and words around the fence, are forgiven and dropped."""
    answer = await answered(text, asked(Prime))

    assert (answer.choices[0].text, answer.structured) == (bare, True)


BAD = [
    ("seven", "schema: the text is not JSON"),
    ("{'prime': 7}", "schema: the text is not JSON"),
    ('{"prime": NaN}', "schema: the text is not JSON"),
    (f"```json\n{GOOD}\n```\nor\n```json\n{GOOD}\n```", "schema: the text is not JSON"),
    ("[" * 100_000, "schema: the text is not JSON"),
    ('{"why": "small"}', "schema: $: 'prime' is a required property"),
    ('{"prime": "seven, for it is a fine number"}', "schema: $.prime: the value is not of type 'integer'"),
    ('["a secret"]', "schema: $: the value is not of type 'object'"),
    ('{"prime": 7, "why": "%s"}' % ("x" * 500), "schema: $.why: the value is too long"),
]


@pytest.mark.parametrize(("text", "reason"), BAD, ids=range(len(BAD)))
async def test_a_text_that_is_not_the_schema_is_told_by_its_reason(text, reason):
    """The reason names the place and the rule, not the value; the cost of the answer is kept."""
    facts = await answered(text, asked(Prime))

    assert (facts.answer_defect, facts.text) == (AnswerDefect.NOT_THE_SCHEMA, reason)
    assert facts.cost > 0


async def test_json_cut_by_the_budget_is_a_matter_of_length():
    """The same budget cuts the same JSON: the next model, not the same again."""
    assert (await answered('{"prime": 7, "wh', asked(Prime), finish="length")).answer_defect is AnswerDefect.LENGTH
    assert (await answered('{"prime": 7}', asked(Prime), finish="length")).structured


async def test_a_refusal_stays_one_and_a_tool_call_is_no_json():
    """The schema is for the text; a model that calls a tool first is not at fault."""
    assert (await answered(None, asked(Prime), refusal="No.")).answer_defect is AnswerDefect.REFUSAL
    call = await answered(None, asked(Prime, tools=TOOLS), ("get_weather", "{}"))
    assert (call.choices[0].tool_calls[0].function.name, call.structured) == ("get_weather", False)


async def test_json_mode_without_a_schema_wants_an_object():
    """OpenAI's JSON mode is held to what it promises."""
    assert (await answered('{"a": 1}', asked({"type": "json_object"}))).structured
    facts = await answered("[1]", asked({"type": "json_object"}))
    assert (facts.answer_defect, facts.text) == (
        AnswerDefect.NOT_THE_SCHEMA,
        "schema: $: the value is not of type 'object'",
    )
    assert not (await answered("[1]", asked({"type": "text"}))).structured


async def test_of_several_choices_those_that_fit_are_kept():
    """A choice that is not the schema is dropped beside one that is."""
    body = completion("seven")
    body["choices"].append({"index": 1, "message": {"role": "assistant", "content": GOOD}, "finish_reason": "stop"})
    async with playing({"body": body}) as wire:
        answer = await attempt(order(OPENAI, wire.url, extra_params={"n": 2}), asked(Prime))
    assert [choice.text for choice in answer.choices] == [GOOD]


async def test_the_client_gives_back_the_instance(server_env: WorkflowEnvironment) -> None:
    """A bad answer is asked for again, a good one is `parsed`: the instance, or the value for a plain schema."""
    async with (
        in_turn(completion("seven"), completion(f"```json\n{GOOD}\n```")) as wire,
        working(server_env.client) as dispatcher,
    ):
        spec = ModelSpec(name=OPENAI, api_base=wire.url)
        result = await dispatcher.call(spec, "Name a prime.", response_format=Prime, policy=QUICK, call_id="structured")
        plain = await dispatcher.call(spec, "Name a prime.", response_format=Prime.model_json_schema())
        later = await dispatcher.attach("structured").result()
    assert (result.parsed, plain.parsed, later.parsed) == (Prime(prime=7), {"prime": 7}, {"prime": 7})
    [bad, _] = result.attempts
    assert (bad.category, bad.rule, bad.message) == (
        "bad_sample", "not-the-schema", "200 not_the_schema: schema: the text is not JSON",
    )  # fmt: skip
    assert result.total_cost == pytest.approx(2 * result.cost)


async def test_a_chain_asks_each_model_in_its_own_way(server_env: WorkflowEnvironment) -> None:
    """One request, two ways on the wire: strict for the first model, a word in the prompt for the second."""
    async with in_turn(completion("seven")) as first, in_turn(completion(GOOD)) as second:
        chain = LLMConfig(models=[
            ModelSpec(name=OPENAI, api_base=first.url, max_retries=0), ModelSpec(name="openai/qwen3", api_base=second.url),
        ])  # fmt: skip
        async with working(server_env.client) as dispatcher:
            result = await dispatcher.call(chain, "Name a prime.", response_format=Prime)
    assert (result.parsed, result.spec_index) == (Prime(prime=7), 1)
    assert first.bodies[0]["response_format"]["type"] == "json_schema"
    assert [message["role"] for message in first.bodies[0]["messages"]] == ["user"]
    assert second.bodies[0]["response_format"] == {"type": "json_object"}
    assert [message["role"] for message in second.bodies[0]["messages"]] == ["system", "user"]


NO_SCHEMAS = [
    ({"type": "object", "properties": 5}, "$.properties: 5 is not of type 'object'"),
    ({"$ref": "#/$defs/Nowhere"}, "'#/$defs/Nowhere' leads nowhere"),
    ({"type": "string", "pattern": "("}, "missing )"),
]


@pytest.mark.parametrize(("schema", "reason"), NO_SCHEMAS)
async def test_a_schema_that_is_none_is_said_before_anything_is_sent(
    server_env: WorkflowEnvironment, schema: dict, reason: str
) -> None:
    """No model could follow it: the call ends at once, unbilled."""
    async with in_turn(completion(GOOD)) as wire, working(server_env.client) as dispatcher:
        with pytest.raises(RequestRejectedError) as caught:
            await dispatcher.call(ModelSpec(name=OPENAI, api_base=wire.url), "Name a prime.", response_format=schema)
    assert "response_format" in str(caught.value)
    assert reason in str(caught.value)
    [entry] = caught.value.attempts
    assert (entry.category, entry.cost) == ("invalid_request", 0.0)
    assert not wire.requests


async def test_a_schema_makes_the_worker_fetch_nothing():
    """A reference to an address is refused: else any caller could have the worker ask addresses of its network."""
    async with playing({"body": {"type": "integer"}}) as wire:
        with pytest.raises(ApplicationError) as caught:
            await attempt(order(OPENAI, wire.url), asked({"$ref": f"{wire.url}/schema.json"}))
    assert caught.value.details[0].local_fault is LocalFault.INVALID_SCHEMA
    assert not wire.requests


NODE = {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}}}
LIST = {"$defs": {"Node": NODE}, "$ref": "#/$defs/Node"}
RUNAWAY = {"type": "string", "pattern": "^(a|aa)+$"}


@pytest.mark.parametrize(("schema", "text", "reason"), [
    (LIST, '{"next": ' * 200 + "{}" + "}" * 200, "nested too deeply"),
    (RUNAWAY, json.dumps("a" * 60 + "b"), "did not end within 2 s of CPU time"),
])  # fmt: skip
async def test_an_answer_that_cannot_be_checked_is_a_bad_sample(schema, text, reason):
    """The model wrote it, and may write a simpler one: its call does not end for that."""
    facts = await answered(text, asked(schema))

    assert (facts.answer_defect, facts.local_fault) == (AnswerDefect.NOT_THE_SCHEMA, None), facts.text
    assert reason in facts.text


async def test_a_large_schema_holds_up_no_heartbeat():
    """It takes a second and more to compile; the worker's other attempts beat on meanwhile."""
    fields = {f"p{index}": {"type": "string", "description": "x" * 20} for index in range(4000)}
    beats: list[float] = []
    env = environment()
    env.on_heartbeat = lambda *_: beats.append(time.monotonic())
    prompt = asked({"type": "object", "properties": fields})
    async with playing({"body": completion("{}")}) as wire:
        await attempt(order(OPENAI, wire.url), prompt, env=env, heartbeat_interval=timedelta(seconds=0.02))

    assert max(later - earlier for earlier, later in pairwise(beats)) < 0.6


@pytest.mark.parametrize("text", ["", "``` ```", "```json\n```"])
def test_no_json_is_said(text):
    """Nothing, and nothing in a fence, are no JSON."""
    with pytest.raises(Rejected, match="not JSON"):
        read_json(text)


async def test_a_chain_that_never_gives_the_schema_says_why(server_env: WorkflowEnvironment) -> None:
    """The last error is the last reason."""
    async with in_turn(completion("seven")) as wire, working(server_env.client) as dispatcher:
        spec = ModelSpec(name=OPENAI, api_base=wire.url, max_retries=1)
        with pytest.raises(AllModelsExhaustedError) as caught:
            await dispatcher.call(spec, "Name a prime.", response_format=Prime, policy=QUICK)
    assert caught.value.last_error == "200 not_the_schema: schema: the text is not JSON"
    assert len(wire.requests) == 2
