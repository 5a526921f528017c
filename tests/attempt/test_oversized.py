"""Answers and errors larger than Temporal takes: cut with a mark by the attempt that was paid for, never asked again."""

import json
import random
import string

import pytest
from temporalio.api.failure.v1 import Failure
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError

from activities.answer.truncate import MOST_CHOICES, truncate
from durable_llm.contract.request import MAX_ANSWER_BYTES
from durable_llm.contract.result import Answer, Choice
from tests.support.attempts import TOOLS, attempt, order, says
from tests.support.stores import asking
from tests.support.wire import playing

OPENAI = "openai/gpt-4o-mini"
LONG = 2_500_000
WIDE = 50_000
FAILURE_BYTES = 16_000


def tool_call(arguments: str, name: str = "get_weather", call_id: str = "c1") -> dict:
    """A tool call of OpenAI's."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def choice(index: int = 0, **message) -> dict:
    """A choice of OpenAI's."""
    return {"index": index, "message": {"role": "assistant", "content": None, **message}, "finish_reason": "stop"}


def completion(*choices: dict, **fields) -> dict:
    """A completion of OpenAI's."""
    usage = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "usage": usage,
        "choices": choices,
        **fields,
    }


ARGUMENTS = json.dumps({"city": "Rome" * (LONG // 4)})
OVERSIZED = {
    "text": completion(choice(content="x" * LONG)),
    "text that escapes make longer": completion(choice(content='"\n' * LONG)),
    "thinking": completion(choice(content="short", reasoning_content="x" * LONG)),
    "tool arguments": completion(choice(content="short", tool_calls=[tool_call(ARGUMENTS)])),
    "two tool calls": completion(
        choice(tool_calls=[tool_call(ARGUMENTS), tool_call('{"city": "Oslo"}', call_id="c2")])
    ),
    "a tool call's id": completion(choice(content="short", tool_calls=[tool_call("{}", call_id="c" * LONG)])),
    "many choices": completion(*(choice(index, content="x" * 40_000) for index in range(100))),
}


@pytest.mark.parametrize("body", OVERSIZED.values(), ids=OVERSIZED.keys())
async def test_an_oversized_answer_is_cut_and_marked(body) -> None:
    """One request, an answer that Temporal takes with room for the ledger, and the first choice is there."""
    async with playing({"body": body}) as wire:
        answer = await attempt(order(OPENAI, wire.url), says(tools=TOOLS))

    assert isinstance(answer, Answer)
    assert answer.truncated
    assert len(answer.model_dump_json().encode()) <= MAX_ANSWER_BYTES
    assert answer.choices[0].text or answer.choices[0].tool_calls
    assert len(wire.requests) == 1


async def test_what_is_short_stays_whole() -> None:
    """Only the longest texts pay: a short text beside long arguments is not touched, nor is a short call."""
    body = completion(
        choice(content="In short: no.", tool_calls=[tool_call(ARGUMENTS), tool_call('{"city": "Oslo"}', call_id="c2")])
    )
    async with playing({"body": body}) as wire:
        answer = await attempt(order(OPENAI, wire.url), says(tools=TOOLS))

    first = answer.choices[0]
    assert first.text == "In short: no."
    assert [call.id for call in first.tool_calls] == ["c1", "c2"]
    assert first.tool_calls[1].function.parsed_arguments() == {"city": "Oslo"}
    assert first.tool_calls[0].function.arguments.endswith("…")
    assert len(first.tool_calls[0].function.arguments) > 1_000_000


async def test_a_cut_answer_ends_the_call(server_env) -> None:
    """The whole way through Temporal: a result with the mark, after one attempt."""
    body = completion(choice(tool_calls=[tool_call(ARGUMENTS)]))
    async with playing({"body": body}) as wire, asking(server_env.client, None, worker_store=None) as dispatcher:
        result = await dispatcher.call({"name": "hosted_vllm/m", "api_base": wire.url}, "Weather?", tools=TOOLS)

    assert (result.truncated, len(result.attempts), len(wire.requests)) == (True, 1, 1)
    assert result.tool_calls[0].function.arguments.startswith('{"city": "RomeRome')


MANY = {
    "tool calls": Answer(choices=[Choice.model_validate({"text": "short", "tool_calls": [tool_call("{}")] * 30_000})]),
    "choices": Answer(choices=[Choice(text="short")] * 40_000),
    "both": Answer(choices=[Choice.model_validate({"text": "short", "tool_calls": [tool_call("{}")] * 200})] * 200),
}


@pytest.mark.parametrize("answer", MANY.values(), ids=MANY.keys())
def test_of_too_many_parts_the_first_are_kept(answer: Answer) -> None:
    """What no model gives in earnest is cut in number, and what is kept of it stays whole."""
    cut = truncate(answer)
    assert cut.truncated
    assert len(cut.model_dump_json()) <= MAX_ANSWER_BYTES
    assert (cut.choices[0].text, cut.choices[0].tool_calls[:1]) == ("short", answer.choices[0].tool_calls[:1])


async def test_names_are_short() -> None:
    """A model's name and an id that never end leave room for the answer."""
    body = completion(choice(content="short"), model="m" * WIDE, id="i" * WIDE)
    async with playing({"body": body}) as wire:
        answer = await attempt(order(OPENAI, wire.url))

    assert (answer.choices[0].text, answer.truncated) == ("short", False)
    assert len(answer.model_dump_json()) < 5000


def test_any_answer_fits() -> None:
    """Whatever is long in it: a hundred answers of random shape come out within their limit, marked if cut."""
    draw = random.Random(7)  # noqa: S311  # nothing secret is drawn

    def text() -> str:
        return "".join(draw.choices(string.ascii_letters + '"\\\n漢\x00', k=int(draw.paretovariate(0.7)) % 3000))

    for _ in range(100):
        count = draw.choice([1, 1, 3, MOST_CHOICES + 2])
        choices = [
            Choice.model_validate({
                "text": text(), "tool_calls": [tool_call(text(), text(), text())] * draw.choice([0, 1, 40]),
                "reasoning_content": text(), "thinking_blocks": [{"thinking": text()}],
            })
            for _ in range(count)
        ]  # fmt: skip
        whole = Answer(choices=choices, model="m")
        limit = draw.choice([600_000, 900_000])
        cut = truncate(whole, limit)
        assert len(cut.model_dump_json().encode()) <= limit
        assert cut.truncated or cut == whole


async def oversized_failure(body, status: int, **case) -> ApplicationError:
    """What an attempt raises for such a response."""
    async with playing({"http_status": status, "body": body, **case}) as wire:
        with pytest.raises(ApplicationError) as raised:
            await attempt(order(OPENAI, wire.url))
    return raised.value


DETAIL = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": "q" * 5000}] * 500}
FAILURES = {
    "text": ({"error": {"code": "c" * WIDE, "type": "t" * WIDE, "message": "m" * LONG}}, 400),
    "wide text": ({"error": {"message": "漢\n" * 1_000_000, "code": "漢" * 100_000}}, 400),
    "details": ({"error": {"message": "no", "details": [DETAIL] * 5, "status": "s" * WIDE}}, 429),
    "no JSON": ("<html>" + "x" * LONG, 502),
    "an error inside a 200": ({"error": {"message": "m" * WIDE, "code": "c" * WIDE}}, 200),
    "an empty answer of a long name": (completion(choice(content=""), model="m" * WIDE), 200),
    "a long finish": (completion({**choice(content=""), "finish_reason": "f" * WIDE}), 200),
}


@pytest.mark.parametrize(("body", "status"), FAILURES.values(), ids=FAILURES.keys())
async def test_an_attempts_failure_stays_far_below_every_limit(body, status) -> None:
    """A failure that Temporal refuses would be an attempt whose end is never told: each is a few KB at most."""
    headers = {f"x-ratelimit-{number}": "1" * 500 for number in range(40)} | {"x-request-id": "r" * 3000}
    error = await oversized_failure(body, status, headers=headers)

    failure = Failure()
    pydantic_data_converter.failure_converter.to_failure(error, pydantic_data_converter.payload_converter, failure)
    assert failure.ByteSize() < FAILURE_BYTES
