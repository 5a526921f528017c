"""A transcript that one provider began, as the next one is asked with it: the bodies of the requests."""

import copy
import json
from typing import Any

import pytest

from activities.request.messages import for_provider
from durable_llm.contract.request import Prompt
from durable_llm.contract.result import Choice, LLMResult
from tests.support.attempts import TOOLS, attempt, order, ring, says
from tests.support.bodies import anthropic, choice, gemini, openai, sent
from tests.support.wire import playing

OPENAI, ANTHROPIC, GEMINI = "openai/gpt-4o-mini", "anthropic/claude-haiku-4-5", "gemini/gemini-3-pro-preview"
CLAUDE_ON_BEDROCK = "bedrock/anthropic.claude-3-7-sonnet-20250219-v1:0"
AWS = {"AWS_ACCESS_KEY_ID": "AKIAX", "AWS_SECRET_ACCESS_KEY": "plain-aws-secret-value", "AWS_REGION_NAME": "us-east-1"}
BODIES = {OPENAI: openai(), ANTHROPIC: anthropic(), GEMINI: gemini()}

THOUGHT = {"type": "thinking", "thinking": "They want weather.", "signature": "CLAUDES"}
HIDDEN = {"type": "redacted_thinking", "data": "ENCRYPTED"}
CALL = {"id": "toolu_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'}}
BOOKKEEPING = ("response_id", "provider", "annotations", "my_note", "provider_specific_fields", "thinking_blocks")


def transcript(*, call_id: str = "toolu_1", **answered: Any) -> list[dict]:
    """A question, an answer that calls a tool, its result, and another question."""
    made = {**CALL, "id": call_id, "index": 0, "function": {**CALL["function"], "my_note": 3}}
    return [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather in Rome?", "my_note": 1},
        {"role": "assistant", "content": "Let me look.", "tool_calls": [made], **answered},
        {"role": "tool", "tool_call_id": call_id, "content": "sunny", "my_note": 2},
        {"role": "user", "content": "And tomorrow?"},
    ]


CLAUDES = transcript(
    reasoning_content="They want weather.", thinking_blocks=[THOUGHT, HIDDEN], provider="anthropic",
    response_id="resp_1", annotations=[{"type": "url_citation"}], refusal=None, audio=None, function_call=None,
    provider_specific_fields={"citations": None},
)  # fmt: skip
GEMINIS = transcript(
    call_id="call_1__thought__FROMID", provider="gemini", reasoning_content="They want weather.",
    thinking_blocks=[{"type": "thinking", "thinking": "They want weather."}],
    provider_specific_fields={"thought_signatures": ["TEXT"], "native_finish_reason": "STOP"},
)  # fmt: skip


async def asked(model: str, messages: list[dict], body: dict | None = None) -> dict:
    """The body of the one request that `messages` become."""
    keys = ring(AWS) if model.startswith("bedrock") else None
    async with playing({"body": body or BODIES.get(model) or openai()}) as wire:
        await attempt(order(model, wire.url), Prompt(messages=messages, tools=TOOLS), keys=keys)
    [request] = wire.requests
    return sent(request)


@pytest.mark.parametrize("transcripts", [CLAUDES, GEMINIS], ids=["claude's", "gemini's"])
async def test_openai_gets_its_own_shape_and_nothing_else(transcripts: list[dict]) -> None:
    """It answers 400 to a key that it does not know."""
    body = await asked(OPENAI, transcripts)

    call_id = transcripts[2]["tool_calls"][0]["id"].partition("__thought__")[0]
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather in Rome?"},
        {"role": "assistant", "content": "Let me look.", "tool_calls": [{**CALL, "id": call_id}]},
        {"role": "tool", "tool_call_id": call_id, "content": "sunny"},
        {"role": "user", "content": "And tomorrow?"},
    ]


STRANGERS = [
    "groq/llama-3.1-8b-instant", "mistral/mistral-small-latest", "xai/grok-3", "together_ai/x/y", "azure/gpt-4o",
    "cerebras/llama3.1-8b", "openrouter/openai/gpt-4o",
]  # fmt: skip


@pytest.mark.parametrize("model", STRANGERS)
def test_no_provider_gets_bookkeeping_or_anothers_signatures(model: str) -> None:
    """Neither keys that only we know nor what another one signed."""
    provider = model.partition("/")[0]
    for messages in (CLAUDES, GEMINIS):
        told = json.dumps(for_provider(messages, provider, model))
        assert not [name for name in (*BOOKKEEPING, "reasoning_content", "CLAUDES", "FROMID", "TEXT") if name in told]


async def test_anthropic_gets_its_signed_blocks_back() -> None:
    """Before the text and the tool call, as they were."""
    body = await asked(ANTHROPIC, CLAUDES)

    assert body["messages"][1]["content"] == [
        THOUGHT,
        HIDDEN,
        {"type": "text", "text": "Let me look."},
        {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Rome"}},
    ]
    assert not [name for name in BOOKKEEPING if name in json.dumps(body)]


async def test_anthropics_blocks_hold_on_another_cloud() -> None:
    """Claude on Amazon's reads what Claude at Anthropic's signed."""
    usage = {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}
    body = {"output": {"message": {"role": "assistant", "content": [{"text": "x"}]}}, "stopReason": "end_turn"}
    claude = await asked(CLAUDE_ON_BEDROCK, CLAUDES, {**body, "usage": usage})
    nova = await asked("bedrock/us.amazon.nova-pro-v1:0", CLAUDES, {**body, "usage": usage})

    assert claude["messages"][1]["content"][0] == {
        "reasoningContent": {"reasoningText": {"text": "They want weather.", "signature": "CLAUDES"}}
    }
    assert "reasoningContent" not in json.dumps(nova)


async def test_anthropic_gets_no_block_that_it_did_not_sign() -> None:
    """Google's have no signature, and an answer without a known writer may have had them from anywhere."""
    unknown = transcript(thinking_blocks=[{"type": "thinking", "thinking": "Who knows."}, THOUGHT])
    foreign = await asked(ANTHROPIC, GEMINIS)
    mixed = await asked(ANTHROPIC, unknown)
    [_, _, amazons, *_] = for_provider(unknown, "bedrock", CLAUDE_ON_BEDROCK)

    assert [part["type"] for part in foreign["messages"][1]["content"]] == ["text", "tool_use"]
    assert foreign["messages"][1]["content"][1]["id"] == "call_1"
    assert mixed["messages"][1]["content"][0] == THOUGHT
    assert "Who knows." not in json.dumps(mixed)
    assert amazons["thinking_blocks"] == [THOUGHT]


async def test_google_gets_its_signatures_back() -> None:
    """One on the text, one on the call; a call that another model made gets litellm's placeholder."""
    own = await asked(GEMINI, GEMINIS)
    foreign = await asked(GEMINI, CLAUDES)

    assert own["contents"][1]["parts"] == [
        {"text": "Let me look.", "thoughtSignature": "TEXT"},
        {"function_call": {"name": "get_weather", "args": {"city": "Rome"}, "id": "call_1"},
         "thoughtSignature": "FROMID"},
    ]  # fmt: skip
    assert own["contents"][2]["parts"][0]["function_response"]["id"] == "call_1"
    assert for_provider(GEMINIS, "gemini", GEMINI)[2]["provider_specific_fields"] == {"thought_signatures": ["TEXT"]}
    assert "CLAUDES" not in json.dumps(foreign)
    assert foreign["contents"][1]["parts"][1]["thoughtSignature"] == "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="


@pytest.mark.parametrize("model", ["deepseek/deepseek-chat", "moonshot/kimi-k2", "hosted_vllm/my/own"])
async def test_who_wants_its_reasoning_back_gets_it(model: str) -> None:
    """DeepSeek refuses a turn with a tool call whose reasoning is missing; it is plain text, whoever wrote it."""
    body = await asked(model, CLAUDES)

    assert body["messages"][2]["reasoning_content"] == "They want weather."
    assert not [name for name in BOOKKEEPING if name in json.dumps(body)]


async def test_openrouter_gets_its_details_back() -> None:
    """At the top of the message, where it looks for them."""
    details = [{"type": "reasoning.encrypted", "data": "XYZ"}]
    packed = {"provider_specific_fields": {"reasoning_details": details}}
    own = await asked("openrouter/openai/gpt-4o", transcript(provider="openrouter", **packed))
    foreign = await asked("openrouter/openai/gpt-4o", transcript(provider="openai", **packed))

    assert own["messages"][2]["reasoning_details"] == details
    assert "reasoning_details" not in foreign["messages"][2]


@pytest.mark.parametrize(
    ("model", "call_id", "expected"),
    [
        (OPENAI, "call_" + "x" * 60, 40),
        (OPENAI, "functions.get_weather:0", "functions.get_weather:0"),
        ("mistral/mistral-small-latest", "toolu_1", 9),
        ("mistral/mistral-small-latest", "Abc123xyz", "Abc123xyz"),
    ],
)
async def test_an_id_fits_its_provider_and_its_result(model: str, call_id: str, expected: int | str) -> None:
    """Mistral takes nine letters and digits, OpenAI at most forty characters; call and result keep the same id."""
    body = await asked(model, transcript(call_id=call_id))
    _, _, answered, result, _ = body["messages"]

    assert answered["tool_calls"][0]["id"] == result["tool_call_id"]
    assert result["tool_call_id"] == expected or len(result["tool_call_id"]) == expected
    assert result["tool_call_id"].isalnum() or result["tool_call_id"] == expected


async def test_marks_for_the_prompt_cache_go_to_who_reads_them() -> None:
    """Anthropic's are a request of their own to Google's cache in litellm, and unknown to OpenAI."""
    marked = [
        {"role": "system", "content": [{"type": "text", "text": "Rules.", "cache_control": {"type": "ephemeral"}}]},
        {"role": "user", "content": "Name a prime.", "cache_control": {"type": "ephemeral"}},
    ]
    assert "cache_control" in json.dumps((await asked(ANTHROPIC, marked))["system"])
    assert "cache_control" in json.dumps((await asked(ANTHROPIC, marked))["messages"])
    assert "cache_control" not in json.dumps(await asked(OPENAI, marked))
    assert "cache_control" not in json.dumps(await asked(GEMINI, marked))


@pytest.mark.parametrize("marked", [
    {**TOOLS[0], "cache_control": {"type": "ephemeral"}},
    {**TOOLS[0], "function": {**TOOLS[0]["function"], "cache_control": {"type": "ephemeral"}}},
])  # fmt: skip
@pytest.mark.parametrize(("model", "reads"), [(OPENAI, False), ("deepseek/deepseek-chat", False), (ANTHROPIC, True)])
async def test_marks_on_tools_go_to_who_reads_them(marked: dict, model: str, reads: bool) -> None:
    """A tool is marked beside its function or inside it."""
    async with playing({"body": BODIES.get(model) or openai()}) as wire:
        await attempt(order(model, wire.url), says(tools=[marked]))
    [request] = wire.requests

    assert ("cache_control" in json.dumps(sent(request)["tools"])) == reads
    assert sent(request)["tools"]


WRITERS = [
    ("vertex_ai", "gemini-2.5-flash", "anthropic", ANTHROPIC, False),
    ("vertex_ai", "claude-haiku-4-5", "anthropic", ANTHROPIC, True),
    ("bedrock", "us.amazon.nova-pro-v1:0", "anthropic", ANTHROPIC, False),
    ("databricks", "databricks-claude-sonnet-4", "vertex_ai", "vertex_ai/claude-haiku-4-5", True),
    ("anthropic", None, "azure_ai", "azure_ai/claude-haiku-4-5", True),
    ("vertex_ai", None, "anthropic", ANTHROPIC, False),
]


@pytest.mark.parametrize(("provider", "model", "asked_provider", "asked_model", "kept"), WRITERS)
def test_a_cloud_of_many_models_is_known_by_the_model(provider, model, asked_provider, asked_model, kept) -> None:
    """What Gemini signed on Google's cloud is none of Claude's, and what Claude signed there is."""
    said = {"role": "assistant", "content": "x", "thinking_blocks": [THOUGHT], "provider": provider, "model": model}
    [told] = for_provider([said], asked_provider, asked_model)

    assert ("thinking_blocks" in told) == kept
    assert not {"provider", "model"} & set(told)


@pytest.mark.parametrize(("model", "kept"), [("gemini-2.5-flash", True), ("claude-haiku-4-5", False), (None, False)])
def test_google_gets_from_its_cloud_what_gemini_signed(model: str | None, kept: bool) -> None:
    """And nothing of what Claude, or nobody knows who, said there."""
    fields = {"thought_signatures": ["TEXT"]}
    said = {"role": "assistant", "content": "x", "provider_specific_fields": fields, "provider": "vertex_ai"}
    [told] = for_provider([{**said, "model": model}], "gemini", GEMINI)

    assert ("provider_specific_fields" in told) == kept


def test_an_answer_tells_who_wrote_it() -> None:
    """The provider and the model that it says it is."""
    result = LLMResult(choices=[Choice(text="x")], provider="vertex_ai", model="gemini-2.5-flash")
    message = result.message()

    assert (message["provider"], message["model"]) == ("vertex_ai", "gemini-2.5-flash")


SAID = [
    ({"content": None, "refusal": "No."}, "openai", {"content": None, "refusal": "No."}),
    ({"content": None, "refusal": "No."}, "groq", {"content": "No."}),
    ({"content": None, "audio": {"id": "a1", "transcript": "Yes."}}, "openai", {"content": None, "audio": {"id": "a1"}}),
    ({"content": None, "audio": {"id": "a1", "transcript": "Yes."}}, "mistral", {"content": "Yes."}),
    ({"content": None, "audio": {"id": "a1", "transcript": "Yes."}, "provider": "azure"}, "openai", {"content": "Yes."}),
    ({"content": [THOUGHT, {"type": "text", "text": "Yes."}]}, "openai", {"content": [{"type": "text", "text": "Yes."}]}),
    ({"content": [THOUGHT, {"type": "text", "text": "Yes."}]}, "anthropic",
     {"content": [THOUGHT, {"type": "text", "text": "Yes."}]}),
    ({"content": "Yes.", "tool_calls": [], "function_call": None}, "openai", {"content": "Yes."}),
    ({"content": "Yes.", "prefix": True}, "deepseek", {"content": "Yes.", "prefix": True}),
    ({"content": "Yes.", "prefix": True}, "openai", {"content": "Yes."}),
    ({"content": None, "function_call": {"name": "f", "arguments": "{}"}}, "openai",
     {"content": None, "function_call": {"name": "f", "arguments": "{}"}}),
]  # fmt: skip


@pytest.mark.parametrize(("answered", "provider", "expected"), SAID)
def test_what_was_said_stays_said(answered: dict, provider: str, expected: dict) -> None:
    """A refusal or a spoken answer becomes plain content where the key that holds it is not known."""
    [told] = for_provider([{"role": "assistant", **answered}], provider, "m")

    assert told == {"role": "assistant", **expected}


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini", "mistral", "openrouter"])
def test_messages_are_never_changed(provider: str) -> None:
    """The next model of the chain gets them whole again."""
    messages = [*copy.deepcopy(CLAUDES), *copy.deepcopy(GEMINIS)]
    before = copy.deepcopy(messages)
    for_provider(messages, provider, "m")

    assert messages == before


SIGNED = [
    (ANTHROPIC, anthropic(THOUGHT, {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "R"}},
                          stop_reason="tool_use"), "CLAUDES"),
    (GEMINI, gemini({"functionCall": {"name": "get_weather", "args": {"city": "R"}}, "thoughtSignature": "GOOGLES"}),
     "GOOGLES"),
    ("deepseek/deepseek-chat",
     openai(choice("tool_calls", reasoning_content="They want weather.", tool_calls=[CALL])), "They want weather."),
]  # fmt: skip


@pytest.mark.parametrize(("model", "body", "bound"), SIGNED)
async def test_an_answers_own_message_goes_home_whole_and_elsewhere_bare(model: str, body: dict, bound: str) -> None:
    """From one call's result into the next call's messages: to the same provider with what it signed, to OpenAI without."""
    async with playing({"body": body}) as wire:
        answer = await attempt(order(model, wire.url), says("Weather?", tools=TOOLS))
    result = LLMResult(choices=answer.choices, provider=answer.provider, response_id=answer.response_id)
    told = {"role": "tool", "tool_call_id": result.tool_calls[0].id, "content": "sunny"}
    messages = [{"role": "user", "content": "Weather?"}, result.message(), told]

    assert bound in json.dumps(await asked(model, messages, body))
    assert bound not in json.dumps(await asked(OPENAI, messages))
