"""Streamed attempts: read to the end inside one attempt, and classified by the events on the wire."""

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llmock.scenarios import StreamFault
from llmock.testing import LLMockServer
from temporalio.exceptions import ApplicationError

from activities.answer.defects import body_defect, choice_ends
from activities.wire.event_stream import fold
from durable_llm.contract.facts import AnswerDefect, LocalFault
from durable_llm.contract.parameters import check_parameters
from durable_llm.contract.policy import Policy
from tests.support.attempts import TOOLS, attempt, order, says
from tests.support.wire import playing
from workflows.policy.decide import Progress
from workflows.policy.versions import CURRENT, VERSIONS

OPENAI = "openai/gpt-4o-mini"
FAMILIES = [(OPENAI, "openai"), ("anthropic/claude-haiku-4-5", "anthropic"), ("gemini/gemini-2.5-flash", "gemini")]
PATHS = {"gemini": "/v1beta"}
STREAMED = {"extra_params": {"stream": True}}


@pytest.fixture(scope="module")
def provider():
    """A provider of many dialects."""
    with LLMockServer() as server:
        yield server


def event(delta: dict | None = None, finish: str | None = None, **fields) -> str:
    """One of OpenAI's events."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini", "choices": choices}
    return f"data: {json.dumps({**head, **fields})}\n\n"


async def served(*events: str, prompt=None):
    """What the attempt makes of these events, and the requests that were made."""
    case = {"headers": {"content-type": "text/event-stream"}, "body": "".join(events)}
    async with playing(case) as wire:
        try:
            outcome = await attempt(order(OPENAI, wire.url, **STREAMED), prompt)
        except ApplicationError as error:
            outcome = error.details[0]
    return outcome, wire.requests


def decided(facts) -> str:
    """What a call with another model would do."""
    return VERSIONS[CURRENT].decide(facts, Progress(budgets=(3, 3)), Policy(), 86_400.0).action


@pytest.mark.parametrize(("model", "base"), FAMILIES)
async def test_a_streamed_answer_is_whole(provider, model, base):
    """Text, end, tokens and price are those of an answer without streaming."""
    provider.state.scenarios.clear()
    url = provider.base_url(base) + PATHS.get(base, "")
    streamed = await attempt(order(model, url, **STREAMED))
    plain = await attempt(order(model, url))

    assert streamed.choices[0].text == plain.choices[0].text
    assert streamed.choices[0].finish_reason == "stop"
    assert (streamed.usage, streamed.cost) == (plain.usage, plain.cost)


FAULTS = [
    ("disconnect", LocalFault.DISCONNECTED, None),
    ("truncate", None, AnswerDefect.CUT),
    ("stall", LocalFault.TIMEOUT, None),
    ("malformed", None, AnswerDefect.UNREADABLE),
]


@pytest.mark.parametrize(("model", "base"), FAMILIES)
@pytest.mark.parametrize(("kind", "fault", "defect"), FAULTS)
async def test_a_broken_stream_is_a_failure(provider, model, base, kind, fault, defect):
    """However a stream breaks, half an answer is none; one request each."""
    provider.state.scenarios.clear()
    provider.state.scenarios.add(StreamFault(kind, after_chunks=3, stall_seconds=2.0))
    before = len(provider.state.journal)
    url = provider.base_url(base) + PATHS.get(base, "")
    with pytest.raises(ApplicationError) as raised:
        await attempt(order(model, url, timeout_s=0.8, **STREAMED))
    async with asyncio.timeout(5):  # the server writes a stalled request down when its stall is over
        while len(provider.state.journal) == before:
            await asyncio.sleep(0.05)

    facts = raised.value.details[0]
    assert (facts.local_fault, facts.answer_defect) == (fault, defect)
    assert decided(facts) == ("next" if kind == "stall" else "retry")
    assert len(provider.state.journal) == before + 1


async def test_usage_is_asked_for_and_never_guessed():
    """The provider is asked for its count; where it gives none, tokens and price are unknown."""
    answer, requests = await served(event({"content": "hi"}), event({}, "stop"), "data: [DONE]\n\n")
    sent = json.loads(requests[0].partition(b"\r\n\r\n")[2])

    assert (sent["stream"], sent["stream_options"]) == (True, {"include_usage": True})
    assert (answer.choices[0].text, answer.usage, answer.cost) == ("hi", None, None)


async def test_a_streamed_tool_call_is_put_together():
    """Arguments that come in pieces are checked as a whole."""

    def piece(arguments: str, **more) -> str:
        call = {"index": 0, **more, "function": {"arguments": arguments, **({"name": "get_weather"} if more else {})}}
        return event({"tool_calls": [call]})

    end = (event({}, "tool_calls"), "data: [DONE]\n\n")
    answer, _ = await served(
        piece('{"ci', id="c1", type="function"), piece('ty": "Rome"}'), *end, prompt=says(tools=TOOLS)
    )
    broken, _ = await served(piece('{"ci', id="c1", type="function"), *end, prompt=says(tools=TOOLS))

    assert answer.choices[0].tool_calls[0].function.parsed_arguments() == {"city": "Rome"}
    assert broken.answer_defect is AnswerDefect.INVALID_TOOL_ARGUMENTS


HELLO = event({"role": "assistant", "content": "Hel"})
DONE = "data: [DONE]\n\n"
ENDS = [
    ([HELLO], AnswerDefect.CUT, ""),
    ([HELLO, DONE], AnswerDefect.CUT, ""),
    ([HELLO, event({}, "stop")[:-40]], AnswerDefect.CUT, ""),
    ([HELLO, event({}, "content_filter"), DONE], AnswerDefect.CONTENT_FILTER, ""),
    ([event({"refusal": "I can"}), event({"refusal": "not."}), event({}, "stop"), DONE], AnswerDefect.REFUSAL, "I cannot."),
    ([event({"role": "assistant"}), event({}, "length"), DONE], AnswerDefect.LENGTH, ""),
    ([event({"role": "assistant"}), event({}, "stop"), DONE], AnswerDefect.EMPTY, ""),
    ([HELLO, 'event: error\ndata: {"message": "Overloaded"}\n\n'], AnswerDefect.ERROR_BODY, "Overloaded"),
    ([HELLO, "event: error\ndata: upstream gone\n\n"], AnswerDefect.ERROR_BODY, "upstream gone"),
    ([": keep-alive\n\n"], AnswerDefect.UNREADABLE, None),
]  # fmt: skip


async def test_a_finish_reason_is_an_end_without_a_marker():
    """Not every compatible server sends [DONE] after it."""
    answer, requests = await served(HELLO, event({}, "stop"))

    assert (answer.choices[0].text, len(requests)) == ("Hel", 1)


@pytest.mark.parametrize(("events", "defect", "text"), ENDS, ids=range(len(ENDS)))
async def test_how_a_stream_ends_decides(events, defect, text):
    """Neither litellm's invented end nor the text so far makes an answer."""
    facts, requests = await served(*events)

    assert (facts.answer_defect, len(requests)) == (defect, 1)
    assert text is None or facts.text == text


async def test_an_error_event_keeps_its_code_and_wait():
    """An error after the 200 is classified as it would have been before it."""
    error = {"error": {"message": "Please try again in 2s.", "type": "tokens", "code": "rate_limit_exceeded"}}
    facts, _ = await served(HELLO, f"data: {json.dumps(error)}\n\n")

    assert (facts.error_code, facts.retry_after_s) == ("rate_limit_exceeded", 2.0)
    assert decided(facts) == "retry"


async def test_a_timeout_closes_the_stream():
    """What a stream would go on to cost ends with the attempt."""
    case = {"fault": "slow_drip", "headers": {"content-type": "text/event-stream"}, "body": HELLO}
    async with playing(case) as wire:
        with pytest.raises(ApplicationError) as raised:
            await attempt(order(OPENAI, wire.url, timeout_s=0.5, **STREAMED))
        async with asyncio.timeout(5):
            await wire.closed.wait()

    assert raised.value.details[0].local_fault is LocalFault.TIMEOUT


OTHERS = [
    (b'{"message": {"content": "a"}, "done": false}\n{"done": true, "done_reason": "stop"}\n', "stop"),
    (b'{"message": {"content": "a"}, "done": false}\n{"done": true, "done_rea', None),
    (b'data: {"type": "message-end", "delta": {"finish_reason": "COMPLETE"}}\n\n', "COMPLETE"),
    (b'data: {"type": "response.completed", "response": {"status": "completed", "output": []}}\n\n', "completed"),
    (
        b'data: {"type": "response.completed", "response": {"status": "completed", "output": [{"content": 3}]}}\n\n',
        "completed",
    ),
    (b'data: {"type": "response.created", "response": {"status": "in_progress"}}\n\n', None),
    (b'data: {"type": "message_start", "message": {}}\n\ndata: {"type": "message_stop"}\n\n', None),
]


@pytest.mark.parametrize(("body", "finish"), OTHERS)
def test_other_dialects_tell_their_end_too(body, finish):
    """The reason, or a cut."""
    [native] = choice_ends(fold(body))
    assert (native.finish_reason, native.error) == (finish, finish is None)


@pytest.mark.parametrize("body", [b"", b"data: [1]\n\n", b"data: 7\n\n", b"data: {\n\n", b"\xff\n\n", b"{}\n[]\n"])
def test_no_bytes_break_the_reader(body):
    """What cannot be read is told as such."""
    assert body_defect(body, fold(body)) is not None


_SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
_NAMES = st.sampled_from([
    "choices", "candidates", "index", "delta", "finish_reason", "finishReason", "type", "message", "usage", "error",
    "response", "output", "status", "content", "stop_reason", "promptFeedback",
])  # fmt: skip
_WORDS = st.sampled_from(["message_start", "message_delta", "message_stop", "response.completed", "refusal"])
_JSON = st.recursive(
    _SCALARS | _WORDS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=4)
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_JSON, max_size=4))
def test_no_events_break_the_reader(events):
    """Events of any shape are an answer's ends, an error or unreadable, and never an exception."""
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode()
    body_defect(body, fold(body))
    choice_ends(fold(body))


async def test_a_stream_without_its_type_is_read_too():
    """Some servers call it plain text."""
    async with playing({"headers": {"content-type": "text/plain"}, "body": HELLO}) as wire:
        with pytest.raises(ApplicationError) as raised:
            await attempt(order(OPENAI, wire.url, **STREAMED))
    assert raised.value.details[0].answer_defect is AnswerDefect.CUT


def test_streaming_takes_one_choice():
    """Litellm puts all choices of a stream into one."""
    check_parameters({"stream": True, "n": 1})
    with pytest.raises(ValueError, match="'n'"):
        check_parameters({"stream": True, "n": 2})


async def test_a_stream_that_cannot_be_checked_is_not_asked_for():
    """A binary stream would be classified by litellm's guesses."""
    with pytest.raises(ApplicationError) as raised:
        await attempt(order("bedrock/anthropic.claude-3-haiku-20240307-v1:0", **STREAMED))
    assert raised.value.details[0].local_fault is LocalFault.UNSUPPORTED
