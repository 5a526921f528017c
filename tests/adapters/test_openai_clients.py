"""Frameworks that speak through OpenAI's client: their agents run on durable calls, with their own retries off."""

import json

import pytest
from temporalio.testing import WorkflowEnvironment

from durable_llm.streams import open_streams
from tests.adapters.environments import printed
from tests.client.test_stream import WHOLE
from tests.support.calls import completion
from tests.support.scripted import fresh_id
from tests.support.wire import playing
from tests.support.workers import working

pytestmark = pytest.mark.timeout(900)  # two programs, each of which may take PROGRAM_S

SERVED = "gpt-4o-mini-2024-07-18"


def reply(body: dict) -> dict:
    """A model that asks for the weather once, names a city, streams, and fails where it is broken."""
    last = body["messages"][-1]
    if body["model"] == "broken":
        return {"http_status": 401, "body": {"error": {"message": "no such key"}}}
    if body.get("stream"):
        return WHOLE
    if last["role"] == "tool":
        return {"body": completion(f"It says: {last['content']}")}
    if last["content"] == "Which city?":
        tools = [tool["function"]["name"] for tool in body.get("tools") or ()]
        if tools:  # pydantic-ai asks for typed output by a tool
            return {"body": completion(None, (tools[0], '{"name": "Oslo"}'), finish="tool_calls")}
        return {"body": completion('{"name": "Oslo"}')}
    return {"body": completion(None, ("weather", '{"city": "Oslo"}'), finish="tool_calls")}


@pytest.mark.parametrize(
    ("adapter", "program"),
    [("pydantic-ai", "pydantic_ai_agent"), ("openai-agents", "openai_agents_agent"), ("langchain", "langgraph_agent")],
)
async def test_an_agent_runs_on_durable_calls(
    server_env: WorkflowEnvironment, tmp_path, adapter: str, program: str
) -> None:
    """Tools, typed output, streams, served model, usage and errors arrive; a second run asks nothing again."""
    streams = open_streams(tmp_path.as_uri())
    async with playing({"by_request": reply}) as wire, working(server_env.client, streams=streams) as dispatcher:
        job_id = fresh_id()
        first = await printed(
            adapter, program, job_id, dispatcher=dispatcher, api_base=wire.url, streams=tmp_path.as_uri()
        )
        asked = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in wire.requests]
        again = await printed(
            adapter, program, job_id, dispatcher=dispatcher, api_base=wire.url, streams=tmp_path.as_uri()
        )
        more = len(wire.requests) - len(asked)
    assert first == again
    assert first["tools"][0] == "It says: sun in Oslo"
    assert first["typed"] == "Oslo"
    assert first["streamed"] == "The right answer."
    assert first["tokens"] == 12
    assert first.get("model", SERVED) == SERVED
    assert first["error"] == [503, "AllModelsExhaustedError"]
    assert first["spent"] == 5
    in_workflow = 2 if "workflow" in first else 0
    without_asyncio = 3 if "sync" in first else 0
    if without_asyncio:
        assert "durable_llm.sync" in first["blocking"]
        assert first["sync"][:2] == ["It says: sun in Oslo", '{"name": "Oslo"}']
        assert "asynchronous" in first["sync"][2]
    assert first.get("workflow", "It says: sun in Oslo") == "It says: sun in Oslo"
    assert len(asked) == 5 + in_workflow + without_asyncio
    assert more == in_workflow
    assert len([body for body in asked if body["model"] == "broken"]) == 1
