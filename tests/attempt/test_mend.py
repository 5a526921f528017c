"""What litellm's decoders cannot read is mended before they see it: a whole answer is an answer."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from temporalio.exceptions import ApplicationError

from activities.wire.mend import mend_body, mend_stream
from durable_llm.contract.facts import FailureFacts
from durable_llm.contract.result import Answer
from tests.support.attempts import attempt, order
from tests.support.wire import playing

OPENAI = {
    "id": "x", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "two"}, "finish_reason": "stop"}],
}  # fmt: skip
ANTHROPIC = {
    "id": "x", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "two"}],
}  # fmt: skip
GOOGLE = {"candidates": [{"content": {"role": "model", "parts": [{"text": "two"}]}, "finishReason": "STOP"}]}
RESPONSE = {
    "id": "resp_x", "object": "response", "created_at": 1, "status": "completed", "model": "m", "tools": [],
    "parallel_tool_calls": True, "tool_choice": "auto",
    "output": [{"type": "message", "id": "m", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": "two", "annotations": []}]}],
}  # fmt: skip
BODIES = [("openai/m", OPENAI), ("anthropic/m", ANTHROPIC), ("gemini/m", GOOGLE), ("mistral/m", OPENAI)]


async def outcome(model: str, body: object, *, stream: bool = False, **spec: object) -> Answer | FailureFacts:
    """The answer or the facts of one attempt that gets `body`."""
    parameters = {"extra_params": {"stream": True}} if stream else {}
    kind = {"content-type": "text/event-stream"} if stream else {}
    async with playing({"body": body, "headers": kind}) as wire:
        try:
            return await attempt(order(model, wire.url, **parameters, **spec))
        except ApplicationError as error:
            return error.details[0]


ODD = [
    "many", 7, [], [1], {"prompt_tokens": "12", "completion_tokens": "3", "total_tokens": "15"},
    {"prompt_tokens": 1.5, "completion_tokens": 2.5, "total_tokens": 4.0},
    {"prompt_tokens": -1, "completion_tokens": 3, "total_tokens": 2},
    {"prompt_tokens": 10**30, "completion_tokens": 3, "total_tokens": 3},
    {"prompt_tokens": [1], "completion_tokens": [2], "total_tokens": [3]},
    {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "prompt_tokens_details": {"cached_tokens": "?"}},
    {"input_tokens": "1", "output_tokens": None}, {"promptTokenCount": "1", "candidatesTokenCount": {}},
]  # fmt: skip


@pytest.mark.parametrize("usage", ODD, ids=str)
@pytest.mark.parametrize(("model", "body"), BODIES)
async def test_an_odd_usage_loses_the_usage_and_never_the_answer(model: str, body: dict, usage: object) -> None:
    """Tokens and cost are unknown, not zero and not guessed."""
    answer = await outcome(model, {**body, "usageMetadata" if "candidates" in body else "usage": usage})
    assert isinstance(answer, Answer), answer
    assert answer.choices[0].text == "two"
    assert (answer.usage, answer.cost) == (None, None)


@pytest.mark.parametrize(("model", "body"), BODIES)
async def test_an_answer_without_usage_is_an_answer(model: str, body: dict) -> None:
    """A gateway may leave it out."""
    answer = await outcome(model, body)
    assert isinstance(answer, Answer), answer
    assert answer.choices[0].text == "two"


@pytest.mark.parametrize("usage", ["many", {"input_tokens": -1, "output_tokens": 2, "total_tokens": 1}], ids=str)
async def test_an_odd_usage_of_the_responses_api_is_unknown(usage: object) -> None:
    """The same on the other API."""
    answer = await outcome("openai/gpt-4.1", {**RESPONSE, "usage": usage}, responses_api=True)
    assert isinstance(answer, Answer), answer
    assert answer.choices[0].text == "two"
    assert (answer.usage, answer.cost) == (None, None)


def chunk(delta: dict, finish: str | None = None, **fields: object) -> str:
    """One event of OpenAI's."""
    value = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m",
             "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **fields}  # fmt: skip
    return f"data: {json.dumps(value)}\n\n"


@pytest.mark.parametrize(
    "extra",
    ["id: 7\n", "retry: 3000\n", ": a comment\n\n", "data:\n\n", "data: \n\n", ":\n\n", "id\nretry: 1\n\n"],
)
async def test_fields_that_events_may_have_lose_no_answer(extra: str) -> None:
    """`id:`, `retry:`, comments and an empty `data:` stand in the specification of server-sent events."""
    pieces = [
        chunk({"role": "assistant", "content": "t"}),
        chunk({"content": "wo"}),
        chunk({}, "stop"),
        "data: [DONE]\n\n",
    ]
    answer = await outcome("openai/m", "".join(extra + piece for piece in pieces), stream=True)
    assert isinstance(answer, Answer), answer
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("two", "stop")


@pytest.mark.parametrize("usage", ODD[:6], ids=str)
async def test_an_odd_usage_at_the_end_of_a_stream_is_unknown(usage: object) -> None:
    """The last event counts the tokens, in its own way."""
    end = "".join(
        [chunk({"content": "two"}), chunk({}, "stop"), chunk({}, None, choices=[], usage=usage), "data: [DONE]\n\n"]
    )
    answer = await outcome("openai/m", end, stream=True)
    assert isinstance(answer, Answer), answer
    assert answer.choices[0].text == "two"
    assert (answer.usage, answer.cost) == (None, None)


@pytest.mark.parametrize(
    "body",
    [
        OPENAI,
        {**ANTHROPIC, "usage": {"input_tokens": 1, "output_tokens": 1}},
        {**OPENAI, "usage": {"prompt_tokens": 1, "total_tokens": 1}},
    ],
)
def test_a_body_that_litellm_can_read_is_not_touched(body: dict) -> None:
    """Byte for byte."""
    raw = json.dumps(body).encode()
    assert mend_body(raw) is raw


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(1, 40), max_size=9))
async def test_a_stream_is_mended_alike_wherever_it_is_cut(body: bytes, cuts: list[int]) -> None:
    """Pieces of a stream end anywhere; no bytes break the reader."""

    async def pieces(lengths: list[int]):
        rest = body
        for length in lengths:
            yield rest[:length]
            rest = rest[length:]
        yield rest

    whole = b"".join([piece async for piece in mend_stream(pieces([]))])
    assert b"".join([piece async for piece in mend_stream(pieces(cuts))]) == whole


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=12,
)
FIELDS = st.sampled_from([
    "usage", "choices", "error", "code", "message", "status", "success", "base_resp", "object", "type", "id", "output",
    "content", "stop_reason", "candidates", "usageMetadata", "model", "created", "promptFeedback",
])  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(base=st.sampled_from(BODIES), changes=st.dictionaries(FIELDS, JSON, max_size=3))
async def test_no_body_breaks_an_attempt(base: tuple[str, dict], changes: dict) -> None:
    """Arbitrary JSON in place of any field: an answer or typed facts, and never another exception."""
    model, body = base
    assert isinstance(await outcome(model, {**body, **changes}), Answer | FailureFacts)


@settings(max_examples=60, deadline=None)
@given(usage=JSON)
async def test_no_usage_costs_an_answer(usage: object) -> None:
    """Whatever a provider counts, its text is paid for."""
    answer = await outcome("openai/m", {**OPENAI, "usage": usage})
    assert isinstance(answer, Answer), answer
    assert answer.choices[0].text == "two"


_NUMBERS = st.integers() | st.floats() | st.text("0123456789.-eE", max_size=6) | st.none() | st.lists(st.integers())
_COUNTED = {
    "openai/m": ("prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "cost"),
    "anthropic/m": ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation", "server_tool_use"),
    "gemini/m": ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "promptTokensDetails"),
    "mistral/m": ("prompt_tokens", "completion_tokens", "total_tokens", "completion_tokens_details"),
}


@settings(max_examples=150, deadline=None)
@given(base=st.sampled_from(BODIES), data=st.data())
async def test_no_count_costs_an_answer(base: tuple[str, dict], data: st.DataObject) -> None:
    """Any number or text under the names that the provider uses; what is counted is a count, or unknown."""
    model, body = base
    usage = data.draw(
        st.dictionaries(st.sampled_from(_COUNTED[model]), _NUMBERS | st.dictionaries(st.just("n"), _NUMBERS))
    )
    answer = await outcome(model, {**body, "usageMetadata" if "candidates" in body else "usage": usage})
    assert isinstance(answer, Answer), answer
    assert answer.choices[0].text == "two"
    assert answer.usage is None or min(answer.usage.prompt_tokens, answer.usage.completion_tokens) >= 0
    assert answer.cost is None or 0 <= answer.cost < 1e6


_HEADERS = st.sampled_from([
    "retry-after", "retry-after-ms", "x-ratelimit-reset-requests", "x-ratelimit-remaining-tokens", "x-request-id",
    "x-should-retry", "content-type", "date", "openai-processing-ms", "anthropic-ratelimit-tokens-reset", "set-cookie",
])  # fmt: skip
_VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30) | _NUMBERS.map(str)


@settings(max_examples=150, deadline=None)
@given(headers=st.dictionaries(_HEADERS, _VALUES, max_size=4), status=st.sampled_from([200, 400, 401, 429, 500, 529]))
async def test_no_header_breaks_an_attempt(headers: dict[str, str], status: int) -> None:
    """An answer stays one; a failure has facts, with a wait that can be waited for, or none."""
    body = OPENAI if status == 200 else {"error": {"message": "no"}}
    async with playing({"http_status": status, "body": body, "headers": headers}) as wire:
        try:
            found = await attempt(order("openai/m", wire.url))
        except ApplicationError as error:
            found = error.details[0]
    if status == 200 and "content-type" not in headers:
        assert isinstance(found, Answer), found
    if isinstance(found, FailureFacts):
        assert found.retry_after_s is None or 0 <= found.retry_after_s < 400 * 86_400


@pytest.mark.parametrize("depth", [100, 900, 3000, 100_000])
@pytest.mark.parametrize("field", ["usage", "error", "x", "choices", "message", "code"])
@pytest.mark.parametrize(("model", "body"), BODIES[:3])
async def test_no_depth_breaks_an_attempt(model: str, body: dict, field: str, depth: int) -> None:
    """A body nested a hundred thousand times is unreadable, and the worker goes on."""
    raw = json.dumps({**body, field: "@"}).replace('"@"', "[" * depth + "]" * depth)
    assert isinstance(await outcome(model, raw), Answer | FailureFacts)
