"""Anthropic's Messages API over the real call: requests as chats, answers as blocks, streams as events."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio.testing import WorkflowEnvironment

from durable_llm.client.tokens import new_token, read_tokens
from durable_llm.contract.ledger import Usage
from durable_llm.contract.result import Choice, FunctionCall, ToolCall
from durable_llm.streams import open_streams
from tests.client.test_stream import WHOLE, chunk, streams
from tests.conftest import SetStage
from tests.front.serving import HI, Served, serving, write_chain
from tests.support.calls import completion
from tests.support.scripted import answer, http_error
from tests.support.wire import playing
from tests.support.workers import working

THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "signed"}
TOOL = {
    "name": "weather",
    "description": "Tell it.",
    "input_schema": {"type": "object"},
    "cache_control": {"type": "ephemeral"},
}
CALLING = answer(choices=[Choice(
    text="Let me see.", finish_reason="tool_calls", thinking_blocks=[THOUGHT],
    tool_calls=[ToolCall(id="call_1", function=FunctionCall(name="weather", arguments='{"city": "Oslo"}'))],
)])  # fmt: skip


async def ask(front: Served, messages: Any = HI, **body: Any) -> httpx.Response:
    """A request for a message."""
    asked = {"model": "fast", "max_tokens": 9, "messages": messages, **body}
    return await front.http.post("/v1/messages", json=asked)


def events_of(text: str) -> list[dict]:
    """The events of a stream, each with its type as its name."""
    events = []
    for each in text.strip().split("\n\n"):
        name, data = each.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


def put_together(events: list[dict]) -> dict[str, Any]:
    """The message of a stream, as Anthropic's client puts it together."""
    message: dict[str, Any] = {}
    for event in events:
        match event:
            case {"type": "message_start"}:
                message = event["message"]
            case {"type": "content_block_start", "index": index}:
                assert index == len(message["content"])
                message["content"].append({**event["content_block"], "json": ""})
            case {"type": "content_block_delta", "delta": {"type": kind, **delta}}:
                [(name, value)] = delta.items()
                name = "json" if kind == "input_json_delta" else name
                message["content"][event["index"]][name] += value
            case {"type": "message_delta"}:
                message |= {**event["delta"], "usage": event["usage"]}
    for block in message["content"]:
        written = block.pop("json")
        if block["type"] == "tool_use":
            block["input"] = json.loads(written)
    return message


async def test_a_message_is_answered_in_blocks(on_server: SetStage, chains: dict) -> None:
    """Signed thinking, text and the use of tools; tokens of the cache are counted apart."""
    used = Usage(prompt_tokens=10, completion_tokens=3, cache_read_tokens=4, cache_creation_tokens=1)
    async with on_server(CALLING.model_copy(update={"usage": used})) as stage, serving(stage.dispatcher) as front:
        response = await ask(
            front, system="Be brief.", tools=[TOOL], tool_choice={"type": "any", "disable_parallel_tool_use": True},
            temperature=0.5, top_k=3, stop_sequences=["x"], metadata={"user_id": "u"},
            thinking={"type": "enabled", "budget_tokens": 1024},
        )  # fmt: skip
        streamed = await ask(front, stream=True, tools=[TOOL])
    message = response.json()
    assert (message["type"], message["role"], message["stop_reason"]) == ("message", "assistant", "tool_use")
    assert message["content"] == [
        THOUGHT, {"type": "text", "text": "Let me see."},
        {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Oslo"}},
    ]  # fmt: skip
    assert message["usage"] == {
        "input_tokens": 5, "output_tokens": 3, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 1,
    }  # fmt: skip
    whole = put_together(events_of(streamed.text))
    assert sorted(map(str, whole["content"])) == sorted(map(str, message["content"]))
    assert (whole["stop_reason"], whole["usage"]) == (message["stop_reason"], message["usage"])
    [order, _], [prompt, _] = stage.provider.orders, stage.provider.prompts
    assert prompt.messages == [{"role": "system", "content": "Be brief."}, *HI]
    function = {"name": "weather", "description": "Tell it.", "parameters": {"type": "object"}}
    assert prompt.tools == [{"type": "function", "function": function, "cache_control": {"type": "ephemeral"}}]
    assert prompt.tool_choice == "required"
    assert order.spec.extra_params == {
        "max_tokens": 9, "temperature": 0.5, "top_k": 3, "stop": ["x"], "user": "u", "parallel_tool_calls": False,
        "thinking": {"type": "enabled", "budget_tokens": 1024},
    }  # fmt: skip


async def test_a_conversation_with_tools_and_pictures_is_a_chat(on_server: SetStage, chains: dict) -> None:
    """Results of tools are messages of their own; thinking goes back with its signature; marks of the cache stay."""
    mark = {"cache_control": {"type": "ephemeral"}}
    messages = [
        {"role": "user", "content": [
            {"type": "text", "text": "Look.", **mark},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
            {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}},
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AA=="}},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Plain."}},
        ]},
        {"role": "assistant", "content": [
            THOUGHT, {"type": "text", "text": "Let me see."},
            {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Oslo"}},
            {"type": "tool_use", "id": "call_2", "name": "weather", "input": {}},
        ]},
        {"role": "user", "content": [
            {"type": "text", "text": "And?"},
            {"type": "tool_result", "tool_use_id": "call_1", "content": [{"type": "text", "text": "-5"}]},
            {"type": "tool_result", "tool_use_id": "call_2", "content": "no city", "is_error": True},
        ]},
        {"role": "assistant", "content": "Cold."},
        {"role": "user", "content": "Thanks."},
    ]  # fmt: skip
    async with on_server(answer("yes")) as stage, serving(stage.dispatcher) as front:
        assert (await ask(front, messages, system=[{"type": "text", "text": "S", **mark}])).status_code == 200
    [prompt] = stage.provider.prompts
    system, picture, assistant, first, second, also, cold, thanks = prompt.messages
    assert system == {"role": "system", "content": [{"type": "text", "text": "S", **mark}]}
    assert picture["content"] == [
        {"type": "text", "text": "Look.", **mark},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
        {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AA==", "filename": "document"}},
        {"type": "text", "text": "Plain."},
    ]
    assert (assistant["content"], assistant["thinking_blocks"]) == ("Let me see.", [THOUGHT])
    assert [call["function"]["arguments"] for call in assistant["tool_calls"]] == ['{"city": "Oslo"}', "{}"]
    assert first == {"role": "tool", "tool_call_id": "call_1", "content": "-5"}
    assert second == {"role": "tool", "tool_call_id": "call_2", "content": "Error: no city"}
    assert [also["content"], cold["content"], thanks["content"]] == ["And?", "Cold.", "Thanks."]


@pytest.mark.parametrize("mode", ["live", "settled"])
async def test_a_stream_is_the_message(
    server_env: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Piece by piece, or once it is sure."""
    body = WHOLE if mode == "live" else {"body": completion("The right answer.")}
    async with (
        playing(body) as wire,
        working(server_env.client, streams=open_streams(tmp_path.as_uri())) as dispatcher,
    ):
        write_chain(tmp_path, monkeypatch, wire.url)
        async with serving(dispatcher) as front:
            front.http.headers["x-durable-llm-stream"] = mode
            events = events_of((await ask(front, stream=True)).text)
    assert put_together(events)["content"] == [{"type": "text", "text": "The right answer."}]
    assert events[-1] == {"type": "message_stop"}


async def test_a_withdrawn_text_ends_in_an_error_event(
    server_env: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Anthropic's shape."""
    seen, text = asyncio.Event(), ""
    cut = {**streams(("data", chunk(content="The wrong ")), ("wait", seen), ("reset",)), "then": WHOLE}
    async with (
        playing(cut) as wire,
        working(server_env.client, streams=open_streams(tmp_path.as_uri())) as dispatcher,
    ):
        write_chain(tmp_path, monkeypatch, wire.url)
        async with serving(dispatcher) as front:
            body = {"model": "fast", "max_tokens": 9, "messages": HI, "stream": True}
            async with front.http.stream("POST", "/v1/messages", json=body) as response:
                async for piece in response.aiter_text():
                    text += piece
                    if "The wrong" in text:
                        seen.set()
            events = events_of(text)
    assert events[-1]["type"] == "error"
    assert "withdrawn" in events[-1]["error"]["message"]


async def test_errors_have_anthropics_shape(on_server: SetStage, chains: dict, tmp_path: Path) -> None:
    """Its clients send the token as X-Api-Key; a call that has ended is not sent again."""
    file = tmp_path / "tokens.yaml"
    token = new_token(file, "team-a", [])
    async with (
        on_server(http_error(401, text="no such key")) as stage,
        serving(stage.dispatcher, tokens=read_tokens(file)) as front,
    ):
        stranger = await ask(front)
        front.http.headers = httpx.Headers({"x-api-key": token})
        failed, missing = await ask(front, model="slow"), await ask(front, model="none")
    assert (stranger.status_code, stranger.json()["error"]["type"]) == (401, "authentication_error")
    assert (failed.status_code, failed.json()["error"]["type"]) == (503, "overloaded_error")
    assert failed.headers["x-should-retry"] == "false"
    assert failed.json()["request_id"].startswith("team-a/")
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error")


BAD = [
    ({"made_up": 1}, "made_up"),
    ({"max_tokens": None}, "max_tokens"),
    ({"messages": "x"}, "messages: expected a list"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0]"),
    ({"messages": [{"role": "user", "content": [{"type": "search_result"}]}]}, "search_result"),
    ({"messages": [{"role": "user", "content": [1]}]}, "expected a block"),
    ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file"}}]}]}, "base64 or url"),
    ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "tool_use_id"),
    ({"messages": [{"role": "assistant", "content": [{"type": "tool_use"}]}]}, "tool_use with id"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "runs at Anthropic"),
    ({"tools": [{**TOOL, "made_up": 1}]}, "made_up"),
    ({"tools": [1]}, "tools[0]"),
    ({"tool_choice": {"type": "x"}}, "tool_choice"),
    ({"metadata": 1}, "metadata: expected a JSON object"),
]


@pytest.mark.parametrize(("body", "says"), BAD, ids=[says for _, says in BAD])
async def test_a_request_that_only_anthropic_could_answer_is_refused(
    on_server: SetStage, chains: dict, body: dict, says: str
) -> None:
    """By the name of what is not supported, before anything is sent."""
    async with on_server(answer("yes")) as stage, serving(stage.dispatcher) as front:
        refused = await front.http.post("/v1/messages", json={"model": "fast", "max_tokens": 9, "messages": HI, **body})
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["type"] == "invalid_request_error"
    assert says in refused.json()["error"]["message"]
    assert not stage.provider.orders
