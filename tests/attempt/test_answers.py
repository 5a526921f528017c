"""Everything else that an answer has: choices, reasoning, log probabilities, cached tokens, seeds, parameters."""

import pytest
from temporalio.exceptions import ApplicationError

from activities.answer.truncate import truncate
from activities.litellm_setup import litellm
from durable_llm.contract.facts import AnswerDefect, FailureFacts, LocalFault, Sent
from durable_llm.contract.request import Prompt
from durable_llm.contract.result import Answer, Choice, LLMResult, ToolCall
from tests.support.attempts import TOOLS, attempt, order, says
from tests.support.bodies import anthropic, choice, events, gemini, openai, response, sent
from tests.support.wire import playing

OPENAI, ANTHROPIC, GEMINI = "openai/gpt-4o-mini", "anthropic/claude-haiku-4-5", "gemini/gemini-2.5-flash"
DEEPSEEK = "deepseek/deepseek-chat"
THOUGHT = {"type": "thinking", "thinking": "Small odd one.", "signature": "SIG=="}
HIDDEN = {"type": "redacted_thinking", "data": "ENCRYPTED"}
STREAM = {"content-type": "text/event-stream"}


def token(text: str, logprob: float) -> dict:
    """One token's log probability, in OpenAI's shape."""
    return {"token": text, "logprob": logprob, "bytes": None, "top_logprobs": []}


async def served(
    body: object, model: str = OPENAI, prompt: Prompt | None = None, *, headers: dict | None = None, **spec: object
) -> tuple[Answer | FailureFacts, list[dict]]:
    """What the attempt makes of one answer, and the bodies of the requests."""
    async with playing({"body": body, "headers": headers}) as wire:
        try:
            outcome = await attempt(order(model, wire.url, **spec), prompt)
        except ApplicationError as error:
            outcome = error.details[0]
    return outcome, [sent(request) for request in wire.requests]


async def test_all_sound_choices_come_back_in_order() -> None:
    """Each with its own text, tool calls, finish reason, log probabilities and reasoning; an unsound one is dropped."""
    call = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'}}
    body = openai(
        choice(content="seven", reasoning_content="Odd.", logprobs={"content": [token("seven", -0.5)]}),
        choice(content=""),
        choice(finish_reason="tool_calls", tool_calls=[call]),
        choice(content="eleven", finish_reason="length"),
    )
    answer, [request] = await served(body, prompt=says(tools=TOOLS), extra_params={"n": 4})

    assert request["n"] == 4
    assert [c.text for c in answer.choices] == ["seven", None, "eleven"]
    assert [c.finish_reason for c in answer.choices] == ["stop", "tool_calls", "length"]
    assert [c.reasoning_content for c in answer.choices] == ["Odd.", None, None]
    assert [c.logprob_sum for c in answer.choices] == [-0.5, None, None]
    assert answer.choices[1].tool_calls[0].function.parsed_arguments() == {"city": "Rome"}


HALF, OTHER_HALF = "\ud83d", "\ude00"


async def test_half_a_character_does_not_cost_the_answer() -> None:
    """A token limit cuts an escape in two: text, arguments and reasoning are kept, with a sign where it was."""
    call = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": f'{{"city": "R{HALF}"}}'}}
    tokens = {"content": [token(HALF, -0.5)]}
    body = openai(
        choice(content=f"fine {HALF} and long", reasoning_content=f"Odd{OTHER_HALF}.", logprobs=tokens),
        choice(finish_reason="tool_calls", tool_calls=[call]),
        choice(content=f"whole {HALF}{OTHER_HALF}"),
    )
    answer, _ = await served(body, prompt=says(tools=TOOLS), extra_params={"n": 3})

    said, called, whole = answer.choices
    assert (said.text, said.reasoning_content) == ("fine \ufffd and long", "Odd\ufffd.")
    assert said.logprobs["content"][0]["token"] == "\ufffd"
    assert called.tool_calls[0].function.parsed_arguments() == {"city": "R\ufffd"}
    assert whole.text == "whole \U0001f600"
    assert Answer.model_validate_json(answer.model_dump_json()) == answer


async def test_halves_that_come_in_two_events_are_one_character() -> None:
    """What a stream cuts is put together again; a half at its very end is none of ours to guess."""
    deltas = [f"a {HALF}", f"{OTHER_HALF} b", HALF]
    head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini"}
    chunks = [{**head, "choices": [{"index": 0, "delta": {"content": delta}}]} for delta in deltas]
    end = {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}
    body = events(*chunks, end) + "data: [DONE]\n\n"
    answer, _ = await served(body, extra_params={"stream": True}, headers=STREAM)

    assert answer.choices[0].text == "a \U0001f600 b\ufffd"


async def test_googles_candidates_are_choices() -> None:
    """Under its own name for `n`."""
    body = gemini()
    body["candidates"].append({**body["candidates"][0], "content": {"role": "model", "parts": [{"text": "eleven"}]}})
    answer, [request] = await served(body, GEMINI, extra_params={"n": 2})

    assert request["generationConfig"] == {"candidate_count": 2}
    assert [c.text for c in answer.choices] == ["seven", "eleven"]


async def test_one_choice_where_several_were_asked_for_is_a_failure() -> None:
    """A provider that ignores `n` is not taken for one that has one thing to say; what it cost is kept."""
    facts, requests = await served(openai(), "openrouter/openai/gpt-4o-mini", extra_params={"n": 3})

    assert (facts.answer_defect, len(requests)) == (AnswerDefect.TOO_FEW, 1)
    assert "n asked for 3" in facts.text
    assert facts.usage.completion_tokens == 3


async def test_fewer_choices_than_asked_for_are_an_answer() -> None:
    """Some were filtered or alike; the provider does heed `n`."""
    answer, _ = await served(openai(choice(content="a"), choice(content="b")), extra_params={"n": 3})

    assert [c.text for c in answer.choices] == ["a", "b"]


REFUSED = [
    (ANTHROPIC, {"n": 2}, "n"),
    ("mistral/mistral-small-latest", {"n": 2}, "n"),
    (ANTHROPIC, {"logprobs": True}, "logprobs"),
    ("openai/o3-mini", {"logprobs": True, "top_logprobs": 2}, "top_logprobs"),
    (GEMINI, {"logprobs": True, "top_logprobs": 2}, "top_logprobs"),
    (ANTHROPIC, {"seed": 7}, "seed"),
]


@pytest.mark.parametrize(("model", "parameters", "said"), REFUSED)
async def test_what_a_model_cannot_give_is_refused_before_anything_is_sent(
    model: str, parameters: dict, said: str
) -> None:
    """By litellm's table of capabilities; another model of the chain may have it. No advice about litellm's proxy."""
    facts, requests = await served(openai(), model, extra_params=parameters)

    assert (facts.local_fault, facts.request_sent, requests) == (LocalFault.UNSUPPORTED, Sent.NO, [])
    assert said in facts.text
    assert "drop_params" not in facts.text


async def test_parameters_that_say_nothing_do_not_matter_to_the_responses_api() -> None:
    """One choice and no log probabilities are what it gives anyway."""
    quiet = {"n": 1, "logprobs": False, "seed": None}
    answer, _ = await served(response(), extra_params=quiet, responses_api=True)

    assert answer.choices[0].text == "seven"


async def test_a_model_that_litellm_does_not_know_is_asked_for_log_probabilities() -> None:
    """Its provider may; that is for the provider to say."""
    _, [request] = await served(openai(), "hosted_vllm/my/own", extra_params={"logprobs": True, "top_logprobs": 2})

    assert (request["logprobs"], request["top_logprobs"]) == (True, 2)


async def test_log_probabilities_have_openais_shape_from_google_too() -> None:
    """Chosen tokens with their alternatives."""
    body = gemini()
    body["candidates"][0]["logprobsResult"] = {
        "chosenCandidates": [{"token": "seven", "tokenId": 1, "logProbability": -0.25}],
        "topCandidates": [{"candidates": [{"token": "eleven", "tokenId": 2, "logProbability": -2.0}]}],
    }
    answer, [request] = await served(body, GEMINI, extra_params={"logprobs": True})

    assert request["generationConfig"] == {"responseLogprobs": True}
    [told] = answer.choices[0].logprobs["content"]
    assert (told["token"], told["logprob"]) == ("seven", -0.25)
    assert [(top["token"], top["logprob"]) for top in told["top_logprobs"]] == [("eleven", -2.0)]
    assert answer.choices[0].logprob_sum == -0.25


async def test_a_streams_log_probabilities_are_put_together() -> None:
    """All tokens, in order."""
    chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini"}
    pieces = [
        {"delta": {"role": "assistant", "content": "sev"}, "logprobs": {"content": [token("sev", -0.5)]}},
        {"delta": {"content": "en"}, "logprobs": {"content": [token("en", -0.25)]}},
        {"delta": {}, "finish_reason": "stop"},
    ]
    body = events(*({**chunk, "choices": [{"index": 0, **piece}]} for piece in pieces)) + "data: [DONE]\n\n"
    answer, _ = await served(body, extra_params={"stream": True, "logprobs": True}, headers=STREAM)

    assert (answer.choices[0].text, answer.choices[0].logprob_sum) == ("seven", -0.75)
    assert [told["token"] for told in answer.choices[0].logprobs["content"]] == ["sev", "en"]


REASONING = [
    (ANTHROPIC, anthropic(THOUGHT, HIDDEN, {"type": "text", "text": "seven"}), [THOUGHT, HIDDEN]),
    (GEMINI, gemini({"text": "Small odd one.", "thought": True}, {"text": "seven"}),
     [{"type": "thinking", "thinking": "Small odd one."}]),
    (DEEPSEEK, openai(choice(content="seven", reasoning_content="Small odd one.")), []),
    ("openrouter/openai/gpt-4o", openai(choice(content="seven", reasoning="Small odd one.")), []),
]  # fmt: skip


@pytest.mark.parametrize(("model", "body", "blocks"), REASONING)
async def test_reasoning_is_kept_as_text_and_as_signed_blocks(model: str, body: dict, blocks: list) -> None:
    """Whatever the provider calls it."""
    answer, _ = await served(body, model)

    assert (answer.choices[0].text, answer.choices[0].reasoning_content) == ("seven", "Small odd one.")
    assert answer.choices[0].thinking_blocks == blocks
    assert answer.provider == model.partition("/")[0]


async def test_a_stream_keeps_its_signed_blocks() -> None:
    """The signature comes in an event of its own."""
    body = events(
        {"type": "message_start", "message": {**anthropic(), "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {**THOUGHT, "thinking": "", "signature": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Small "}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "odd one."}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "SIG=="}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "seven"}},
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
        named=True,
    )
    answer, _ = await served(body, ANTHROPIC, extra_params={"stream": True}, headers=STREAM)

    assert (answer.choices[0].text, answer.choices[0].thinking_blocks) == ("seven", [THOUGHT])


async def test_googles_signatures_are_beside_the_call_not_in_its_id() -> None:
    """In the id, where litellm hides one, it would be too long for other providers, and be copied about."""
    body = gemini(
        {"text": "Let me look.", "thoughtSignature": "TEXT"},
        {"functionCall": {"name": "get_weather", "args": {"city": "Rome"}}, "thoughtSignature": "CALL"},
    )
    answer, _ = await served(body, GEMINI, says(tools=TOOLS))
    [call] = answer.choices[0].tool_calls

    assert "CALL" not in call.id
    assert call.provider_specific_fields == {"thought_signature": "CALL"}
    assert answer.choices[0].provider_specific_fields == {"thought_signatures": ["TEXT", "CALL"]}


def test_an_answers_message_has_what_the_next_call_needs() -> None:
    """OpenAI's shape, and beside it only what is there."""
    call = ToolCall.model_validate({"id": "c1", "function": {"name": "f", "arguments": "{}"}})
    full = Choice(text="hm", tool_calls=[call], reasoning_content="Odd.", thinking_blocks=[THOUGHT])
    result = LLMResult(choices=[Choice(text="seven"), full], provider="anthropic", response_id="resp_1")
    plain = LLMResult(choices=[Choice(text="seven")], response_id="chatcmpl-1")

    assert plain.message() == {"role": "assistant", "content": "seven"}
    assert result.message(1) == {
        "role": "assistant", "content": "hm", "reasoning_content": "Odd.", "thinking_blocks": [THOUGHT],
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        "provider": "anthropic", "response_id": "resp_1",
    }  # fmt: skip
    with pytest.raises(IndexError):
        plain.message(1)


def test_reasoning_goes_before_text_where_an_answer_is_too_large() -> None:
    """Blocks and signatures count; a block that is cut would be refused, so all of them go."""
    heavy = Choice(
        text="seven", reasoning_content="x" * 900, thinking_blocks=[{**THOUGHT, "signature": "x" * 900}],
        provider_specific_fields={"thought_signatures": ["x" * 900]},
    )  # fmt: skip
    cut = truncate(Answer(choices=[heavy]), limit=1000)

    assert (cut.truncated, cut.choices) == (True, [Choice(text="seven")])


CACHED = [
    (OPENAI, openai(usage={"prompt_tokens": 120, "completion_tokens": 3, "total_tokens": 123,
                           "prompt_tokens_details": {"cached_tokens": 100}}), (120, 100, 0)),
    (ANTHROPIC, anthropic(usage={"input_tokens": 20, "output_tokens": 3, "cache_read_input_tokens": 60,
                                 "cache_creation_input_tokens": 40}), (120, 60, 40)),
    (GEMINI, gemini(usageMetadata={"promptTokenCount": 120, "candidatesTokenCount": 3, "totalTokenCount": 123,
                                   "cachedContentTokenCount": 100}), (120, 100, 0)),
    (DEEPSEEK, openai(model="deepseek-chat", usage={"prompt_tokens": 120, "completion_tokens": 3, "total_tokens": 123,
                      "prompt_cache_hit_tokens": 100, "prompt_cache_miss_tokens": 20}), (120, 100, 0)),
]  # fmt: skip


@pytest.mark.parametrize(("model", "body", "tokens"), CACHED)
async def test_cached_tokens_are_counted_and_priced(model: str, body: dict, tokens: tuple[int, int, int]) -> None:
    """Prompt tokens are all of them; those read from the cache and those written to it have prices of their own."""
    answer, _ = await served(body, model)
    usage, prices = answer.usage, litellm.model_cost[model if model in litellm.model_cost else model.partition("/")[2]]
    prompt, read, created = tokens

    assert (usage.prompt_tokens, usage.cache_read_tokens, usage.cache_creation_tokens) == tokens
    assert answer.cost == pytest.approx(
        (prompt - read - created) * prices["input_cost_per_token"]
        + read * prices["cache_read_input_token_cost"]
        + created * (prices.get("cache_creation_input_token_cost") or 0.0)
        + usage.completion_tokens * prices["output_cost_per_token"]
    )
    assert prices["cache_read_input_token_cost"] < prices["input_cost_per_token"]


async def test_a_seed_is_sent_and_the_fingerprint_kept() -> None:
    """Together they say whether the same answer could come again."""
    answer, [request] = await served(openai(system_fingerprint="fp_1"), extra_params={"seed": 7})
    _, [googles] = await served(gemini(), GEMINI, extra_params={"seed": 7})

    assert (request["seed"], answer.system_fingerprint) == (7, "fp_1")
    assert googles["generationConfig"] == {"seed": 7}


async def test_safety_settings_reach_google() -> None:
    """Category by category, as they are."""
    settings = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_ONLY_HIGH"}]
    _, [request] = await served(gemini(), GEMINI, extra_params={"safety_settings": settings})

    assert request["safetySettings"] == settings


async def test_thinking_is_asked_for_in_each_providers_words() -> None:
    """One parameter, two wires."""
    budget = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    _, [claude] = await served(anthropic(), ANTHROPIC, extra_params=budget)
    _, [google] = await served(gemini(), GEMINI, extra_params=budget)

    assert claude["thinking"] == budget["thinking"]
    assert google["generationConfig"]["thinkingConfig"] == {"includeThoughts": True, "thinkingBudget": 1024}
