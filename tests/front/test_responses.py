"""The Responses API, asked by OpenAI's own client: kept answers, conversations, background, resumed streams."""

import asyncio
import json
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel
from temporalio.testing import WorkflowEnvironment

from durable_llm.client.tokens import Token
from durable_llm.contract.result import Answer, Choice, FunctionCall, ToolCall
from durable_llm.streams import open_streams
from tests.client.test_stream import WHOLE, chunk, says, streams
from tests.conftest import SetStage
from tests.front.serving import Served, serving, write_chain
from tests.support.calls import completion
from tests.support.scripted import answer, fresh_id, http_error, never
from tests.support.wire import playing
from tests.support.workers import working
from workers.front.wires.responses import ResponsesWire

WEATHER = {
    "type": "function", "name": "weather", "description": "Tell it.", "strict": False,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}  # fmt: skip


def calling(**given: Any) -> Answer:
    """An answer that calls the tool."""
    call = ToolCall(id="call_1", function=FunctionCall(name="weather", arguments=json.dumps(given)))
    return answer(choices=[Choice(tool_calls=[call], finish_reason="tool_calls")])


async def test_a_response_is_answered_and_kept(on_server: SetStage, chains: dict) -> None:
    """It repeats what was asked, and can be fetched, by its own tenant only."""
    async with on_server(answer("yes")) as stage, serving(stage.dispatcher) as front:
        made = await front.openai.responses.create(
            model="fast", input="Hi.", instructions="Be brief.", temperature=0.5, max_output_tokens=9,
            metadata={"team": "a"}, reasoning={"effort": "low"}, text={"verbosity": "low"}, tools=[WEATHER],
        )  # fmt: skip
        fetched = await front.openai.responses.retrieve(made.id)
        async with serving(stage.dispatcher, tokens=[Token("0" * 64, "other")]) as other:
            assert (await other.http.get(f"/v1/responses/{made.id}")).status_code == 401
    assert made.output_text == fetched.output_text == "yes"
    assert made.id.startswith("resp_local/")
    assert (made.status, made.instructions, made.temperature, made.metadata) == (
        "completed",
        "Be brief.",
        0.5,
        {"team": "a"},
    )
    assert made.usage is not None
    assert (made.usage.input_tokens, made.usage.output_tokens, made.usage.total_tokens) == (5, 1, 6)
    assert made.tools[0].name == "weather"
    assert {**fetched.to_dict(), "created_at": 0} == {**made.to_dict(), "created_at": 0}
    [order], [prompt] = stage.provider.orders, stage.provider.prompts
    assert prompt.messages == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi."}]
    assert prompt.tools == [{"type": "function", "function": {k: v for k, v in WEATHER.items() if k != "type"}}]
    assert order.spec.extra_params == {
        "temperature": 0.5, "max_completion_tokens": 9, "reasoning_effort": "low", "verbosity": "low",
    }  # fmt: skip


async def test_a_conversation_goes_on_for_any_model(on_server: SetStage, chains: dict) -> None:
    """The front adds the turns before, with what only their provider understands. Instructions do not carry over."""
    thought = answer(choices=[Choice(text="one", thinking_blocks=[{"type": "thinking", "signature": "s"}])])
    async with on_server(thought, answer("two"), answer("three")) as stage, serving(stage.dispatcher) as front:
        create = front.openai.responses.create
        first = await create(model="fast", input="1?", instructions="First.")
        second = await create(model="slow", input="2?", previous_response_id=first.id, instructions="Second.")
        third = await create(model="fast", input="3?", previous_response_id=second.id)
        with pytest.raises(openai.NotFoundError):
            await create(model="fast", input="4?", previous_response_id="resp_local/none")
        with pytest.raises(openai.NotFoundError):
            await create(model="fast", input="4?", previous_response_id="resp_foreign/none")
    assert third.output_text == "three"
    assert third.previous_response_id == second.id
    turns = [[(each["role"], each["content"]) for each in prompt.messages] for prompt in stage.provider.prompts]
    begin = [("user", "1?"), ("assistant", "one"), ("user", "2?")]
    assert turns[1] == [("system", "Second."), *begin]
    assert turns[2] == [*begin, ("assistant", "two"), ("user", "3?")]
    assert stage.provider.prompts[1].messages[2]["thinking_blocks"] == [{"type": "thinking", "signature": "s"}]


async def test_functions_are_called_and_answered(on_server: SetStage, chains: dict) -> None:
    """By items of the next input, or after the response before."""
    async with on_server(calling(city="Oslo"), answer("cold")) as stage, serving(stage.dispatcher) as front:
        create = front.openai.responses.create
        asked = await create(model="fast", input="Weather?", tools=[WEATHER], tool_choice="required")
        [call] = asked.output
        output = {"type": "function_call_output", "call_id": call.call_id, "output": "-5"}
        cold = await create(
            model="fast", input=[{"role": "user", "content": "Weather?"}, call, output], tools=[WEATHER]
        )
        also = await create(model="fast", input=[output], previous_response_id=asked.id, tools=[WEATHER])
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "weather", {"city": "Oslo"})
    assert cold.output_text == also.output_text == "cold"
    for prompt in stage.provider.prompts[1:]:
        question, called, result = prompt.messages
        assert question == {"role": "user", "content": "Weather?"}
        assert called["tool_calls"][0]["id"] == "call_1"
        assert result == {"role": "tool", "tool_call_id": "call_1", "content": "-5"}


async def test_a_typed_answer_is_parsed(on_server: SetStage, chains: dict) -> None:
    """The schema goes to the model, and the answer is checked."""

    class City(BaseModel):
        name: str

    async with on_server(answer('{"name": "Oslo"}', structured=True)) as stage, serving(stage.dispatcher) as front:
        parsed = await front.openai.responses.parse(model="fast", input="Which city?", text_format=City)
    assert parsed.output_parsed == City(name="Oslo")
    [prompt] = stage.provider.prompts
    assert prompt.response_format["json_schema"]["name"] == "City"


async def test_background_needs_no_open_connection(on_server: SetStage, chains: dict) -> None:
    """It is given back at once, goes on without its client, and is cancelled by request."""
    may_answer = asyncio.Event()

    async def held(_: Any) -> Answer:
        await may_answer.wait()
        return answer("at last")

    async with on_server(held, never) as stage, serving(stage.dispatcher) as front:
        responses, key = front.openai.responses, {"idempotency-key": fresh_id()}
        made = await responses.create(model="fast", input="Hi.", background=True, extra_headers=key)
        again = await responses.create(model="fast", input="Hi.", background=True, extra_headers=key)
        assert (made.status, made.background, again.id) == ("in_progress", True, made.id)
        assert (await responses.retrieve(made.id)).status == "in_progress"
        with pytest.raises(openai.BadRequestError, match="not answered yet"):
            await responses.create(model="fast", input="More?", previous_response_id=made.id)
        may_answer.set()
        async with serving(stage.dispatcher) as other:
            done = await ended(other, made.id)
        stopped = await responses.create(model="fast", input="Hi.", background=True)
        assert (await responses.cancel(stopped.id)).status == "cancelled"
        assert (await ended(front, stopped.id)).status == "cancelled"
    assert (done.status, done.output_text) == ("completed", "at last")
    assert len(stage.provider.orders) == 2


async def ended(front: Served, response_id: str) -> Any:
    """The response, once it is not in progress."""
    while (response := await front.openai.responses.retrieve(response_id)).status == "in_progress":
        await asyncio.sleep(0.05)
    return response


async def test_a_failed_response_has_a_true_status_and_is_kept(on_server: SetStage, chains: dict) -> None:
    """Asked in the background, it says that it has failed; a client's library asks once."""
    async with on_server(http_error(401, text="no such key")) as stage, serving(stage.dispatcher) as front:
        with pytest.raises(openai.InternalServerError) as failed:
            await front.openai.responses.create(model="slow", input="Hi.")
        kept = await front.openai.responses.retrieve("resp_" + failed.value.body["call_id"])
        background = await front.openai.responses.create(model="slow", input="Hi.", background=True)
        later = await ended(front, background.id)
        events = [each async for each in await front.openai.responses.create(model="slow", input="Hi.", stream=True)]
    assert kept.status == later.status == "failed"
    assert later.error is not None
    assert "401" in later.error.message
    assert [each.type for each in events] == ["response.created", "response.in_progress", "response.failed"]
    assert len(stage.provider.orders) == 3


async def test_an_answer_that_is_cut_short_is_incomplete(on_server: SetStage, chains: dict) -> None:
    """With OpenAI's reason."""
    cut = answer(choices=[Choice(text="half", finish_reason="length")])
    async with on_server(cut) as stage, serving(stage.dispatcher) as front:
        made = await front.openai.responses.create(model="fast", input="Hi.")
    assert made.status == "incomplete"
    assert made.incomplete_details is not None
    assert made.incomplete_details.reason == "max_output_tokens"


@pytest.mark.proof
async def test_what_is_not_to_be_kept_is_deleted(on_server: SetStage, chains: dict) -> None:
    """By request, or with `store: false` once it is answered. Temporal deletes within a minute or two."""
    async with on_server(answer("yes")) as stage, serving(stage.dispatcher) as front:
        made = [await front.openai.responses.create(model="fast", input="Hi.", store=kept) for kept in (True, False)]
        await front.openai.responses.delete(made[0].id)
        for each in made:
            assert each.output_text == "yes"
            while (await front.http.get(f"/v1/responses/{each.id}")).status_code != 404:
                await asyncio.sleep(0.5)


BAD = [
    ({"input": "x", "made_up": 1}, "made_up"),
    ({"input": 1}, "input: expected a list"),
    ({"input": [1]}, r"input\[0\]: expected an item"),
    ({"input": [{"type": "reasoning", "summary": []}]}, r"input\[0\]: 'reasoning' is not supported"),
    ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input_audio"),
    ({"input": [{"role": "user", "content": [1]}]}, "expected a part"),
    ({"input": "x", "tools": [{"type": "web_search"}]}, r"tools\[0\]: 'web_search' runs at OpenAI"),
    ({"input": "x", "tools": [1]}, r"tools\[0\]"),
    ({"input": "x", "tool_choice": {"type": "web_search"}}, "tool_choice"),
    ({"input": "x", "truncation": "auto"}, "truncation"),
    ({"input": "x", "include": ["file_search_call.results"]}, "include"),
    ({"input": "x", "background": True, "store": False}, "background"),
    ({"input": "x", "reasoning": {"made_up": 1}}, "made_up"),
    ({"input": "x", "reasoning": 1}, "reasoning: expected a JSON object"),
    ({"input": "x", "metadata": "a"}, "metadata"),
    ({"input": "x", "model": 1}, "model: expected a text"),
    ({"input": "x", "conversation": "c"}, "conversation"),
    ({}, "messages"),
]


@pytest.mark.parametrize(("body", "says_"), BAD, ids=[says_ for _, says_ in BAD])
async def test_a_request_that_only_openai_could_answer_is_refused(
    on_server: SetStage, chains: dict, body: dict, says_: str
) -> None:
    """By the name of what is not supported, before anything is sent."""
    async with on_server(answer("yes")) as stage, serving(stage.dispatcher) as front:
        with pytest.raises(openai.BadRequestError, match=says_):
            await front.openai.post("/responses", body={"model": "fast", **body}, cast_to=object)
    assert not stage.provider.orders


async def test_a_chat_completion_is_no_response(on_server: SetStage, chains: dict) -> None:
    """Its id leads to nothing here."""
    async with on_server(answer("yes")) as stage, serving(stage.dispatcher) as front:
        completion = (await front.ask()).json()
        assert (await front.http.get(f"/v1/responses/{completion['id']}")).status_code == 404
        assert (await front.http.get("/v1/responses/resp_local/x?stream=true&starting_after=x")).status_code == 404


@pytest.mark.parametrize("mode", ["live", "settled"])
async def test_a_stream_of_a_response_ends_with_the_whole(
    server_env: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """OpenAI's own reader of streams puts it together; each event has a number above the one before."""
    body = WHOLE if mode == "live" else {"body": completion("The right answer.")}
    async with playing(body) as wire, streaming(server_env, tmp_path) as dispatcher:
        write_chain(tmp_path, monkeypatch, wire.url)
        async with serving(dispatcher) as front:
            header = {"x-durable-llm-stream": mode}
            async with front.openai.responses.stream(model="fast", input="Hi.", extra_headers=header) as stream:
                events = [event async for event in stream]
                final = await stream.get_final_response()
    assert final.output_text == "The right answer."
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == final.output_text
    numbers = [event.sequence_number for event in events]
    assert numbers == sorted(set(numbers))
    assert [event.type for event in events][-4:] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed",
    ]  # fmt: skip


def streaming(env: WorkflowEnvironment, directory: Path) -> Any:
    """A dispatcher and a worker with a place for streams."""
    return working(env.client, streams=open_streams(directory.as_uri()))


async def test_a_stream_is_resumed_after_any_event(
    server_env: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By any front, while the call runs and after its end: what follows is what the first reader would have had."""
    seen = asyncio.Event()
    held = streams(("data", chunk(content="One ")), ("wait", seen), *says("two ", "three."))
    async with playing(held) as wire, streaming(server_env, tmp_path) as dispatcher:
        write_chain(tmp_path, monkeypatch, wire.url)
        async with serving(dispatcher) as front:
            create = front.openai.responses.create
            first = []
            async for event in await create(model="fast", input="Hi.", stream=True, background=True):
                first.append(event)
                if event.type == "response.output_text.delta":
                    break
        response_id = first[0].response.id
        async with serving(dispatcher) as front:
            resumed = await front.openai.responses.retrieve(
                response_id, stream=True, starting_after=first[-1].sequence_number
            )
            seen.set()
            rest = [event async for event in resumed]
            whole = [event async for event in await front.openai.responses.retrieve(response_id, stream=True)]
            for place, event in enumerate(whole):
                after = [
                    each async for each in await front.openai.responses.retrieve(
                        response_id, stream=True, starting_after=event.sequence_number
                    )
                ]  # fmt: skip
                assert [each.to_dict() for each in after] == [each.to_dict() for each in whole[place + 1 :]]
    assert text_of(first) == "One "
    assert text_of(rest) == "two three."
    assert text_of(whole) == "One two three."
    assert rest[0].sequence_number > first[-1].sequence_number
    assert rest[-1].type == "response.completed"


def text_of(events: list[Any]) -> str:
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


async def test_withdrawn_text_ends_the_stream_and_the_response_is_right(
    server_env: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error event says so, also to a reader who resumes behind the withdrawn text."""
    seen = asyncio.Event()
    cut = {**streams(("data", chunk(content="The wrong ")), ("wait", seen), ("reset",)), "then": WHOLE}
    async with playing(cut) as wire, streaming(server_env, tmp_path) as dispatcher:
        write_chain(tmp_path, monkeypatch, wire.url)
        async with serving(dispatcher) as front:
            events = []
            async for event in await front.openai.responses.create(
                model="fast", input="Hi.", stream=True, background=True
            ):
                events.append(event)
                if event.type == "response.output_text.delta":
                    seen.set()
            response = await ended(front, events[0].response.id)
            after = [
                event
                async for event in await front.openai.responses.retrieve(
                    response.id, stream=True, starting_after=events[-2].sequence_number
                )
            ]
    assert events[-1].type == after[-1].type == "error"
    assert "withdrawn" in events[-1].message
    assert response.output_text == "The right answer."


async def test_a_stream_of_a_function_call_is_numbered_too(on_server: SetStage, chains: dict) -> None:
    """Without text, the calls come first."""
    async with on_server(calling(city="Oslo")) as stage, serving(stage.dispatcher) as front:
        stream = await front.openai.responses.create(model="fast", input="Weather?", tools=[WEATHER], stream=True)
        events = [event async for event in stream]
    assert [event.type for event in events][2:] == [
        "response.output_item.added", "response.function_call_arguments.delta",
        "response.function_call_arguments.done", "response.output_item.done", "response.completed",
    ]  # fmt: skip


def test_a_number_beyond_all_text_is_a_position() -> None:
    """The numbers of an attempt's text lie between those of its neighbours."""
    wire = ResponsesWire(None, (2 << 32) + 3 + 7)  # type: ignore[arg-type]  # nothing is written
    assert wire.position == (3, 7)
    assert ResponsesWire(None, 3).position is None  # type: ignore[arg-type]  # as above
