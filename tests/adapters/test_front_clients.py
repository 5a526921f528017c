"""Published clients, unmodified, each in an environment of its own: they know the front's address and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from temporalio.testing import WorkflowEnvironment

from durable_llm.store import open_store
from durable_llm.streams import open_streams
from tests.adapters.environments import ended, python_of
from tests.client.test_embeddings import vector
from tests.client.test_stream import WHOLE
from tests.front.serving import serving
from tests.support.calls import completion
from tests.support.processes import start
from tests.support.wire import playing
from tests.support.workers import working

pytestmark = pytest.mark.timeout(900)

RIGHT = "The right answer."
SUN = "It says: sun in Oslo"
VECTORS = [vector("one")]

SEEN: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": ("openai_client", {
        "chat": "hello", "same": True, "parsed": "Oslo", "streamed": RIGHT, "response": ["hello", "hello"],
        "response parsed": "Oslo", "response streamed": RIGHT, "tool": ["weather"], "background": ["completed", "hello"],
        "vectors": [vector("one"), vector("three")], "batch": ["completed", 3], "models": ["broken", "fast", "vectors"],
        "error": [503, "AllModelsExhaustedError"],
    }),
    "anthropic": ("anthropic_client", {
        "message": ["hello", "end_turn", 12], "tools": SUN, "streamed": RIGHT, "final": RIGHT,
        "error": [503, "overloaded_error"], "blocking": "hello",
    }),
    "litellm": ("litellm_client", {
        "chat": "hello", "streamed": RIGHT, "response": "hello", "vectors": VECTORS, "message": "hello", "error": 503,
        "blocking": "hello",
    }),
    "instructor": ("instructor_client", {
        "tool_call": "Oslo", "json_mode": "Oslo", "json_schema_mode": "Oslo", "blocking": "Oslo",
    }),
    "langchain": ("langgraph_client", {
        "chat": [SUN, ["weather"], 12], "responses": [SUN, ["weather"], 12], "conversation": [SUN, ["weather"], 12],
        "typed": "Oslo", "streamed": RIGHT, "blocking": "hello", "vectors": VECTORS,
    }),
    "pydantic-ai": ("pydantic_ai_client", {
        "chat": [SUN, ["weather"], "Oslo", RIGHT], "responses": [SUN, ["weather"], "Oslo", RIGHT],
    }),
    "openai-agents": ("openai_agents_client", {
        "OpenAIResponsesModel": [SUN, "Oslo", RIGHT], "OpenAIChatCompletionsModel": [SUN, "Oslo", RIGHT],
        "conversation": SUN,
    }),
    "lmi": ("ldp_client", {"observed": [["1.5"], ["1"], ["2.5"], ["2"], ["null"]]}),
}  # fmt: skip
"""What the program of each environment sees."""

STEPS = [
    ("cast_float", {"x": "1.5"}), ("cast_int", {"x": 1.5}), ("cast_float", {"x": "2.5"}), ("cast_int", {"x": 2.5}),
    ("print_story", {"story": "It was a dark night."}),
]  # fmt: skip


def reply(body: dict) -> dict:
    """A model that says hello, names a city, knows the weather, streams, plays ldp's dummy environment, or is broken."""
    if body["model"] == "broken":
        return {"http_status": 401, "body": {"error": {"message": "no such key"}}}
    if "input" in body:
        data = [{"index": place, "embedding": vector(text)} for place, text in enumerate(body["input"])]
        return {"body": {"data": data, "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}}}
    if body.get("stream"):
        return WHOLE
    tools = [tool["function"]["name"] for tool in body.get("tools") or ()]
    if "print_story" in tools:
        name, arguments = STEPS[sum(message["role"] == "tool" for message in body["messages"])]
        return calls(name, arguments)
    last = body["messages"][-1]
    if last["role"] == "tool":
        return {"body": completion(f"It says: {last['content']}")}
    if "Which city?" in str(last["content"]):
        return calls(tools[0], {"name": "Oslo"}) if tools else {"body": completion('{"name": "Oslo"}')}
    return calls(tools[0], {"city": "Oslo"}) if tools else {"body": completion("hello")}


def calls(name: str, arguments: dict) -> dict:
    """An answer that calls a tool."""
    return {"body": completion(None, (name, json.dumps(arguments)), finish="tool_calls")}


@pytest.mark.parametrize("client", SEEN)
async def test_an_unmodified_client_runs_on_durable_calls(
    server_env: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: str
) -> None:
    """What it asks is answered in its own shape. What failed for good is asked once, whatever its own retries."""
    program, expected = SEEN[client]
    store, streams = open_store((tmp_path / "store").as_uri()), open_streams((tmp_path / "streams").as_uri())
    async with (
        playing({"by_request": reply}) as wire,
        working(server_env.client, store=store, worker_store=store, streams=streams) as dispatcher,
    ):
        names = {"fast": "gpt-4o-mini", "vectors": "small-embedding", "broken": "broken"}
        chains = {
            name: {"models": [{"name": f"openai/{model}", "api_base": wire.url}]} for name, model in names.items()
        }
        (tmp_path / "chains.yaml").write_text(yaml.safe_dump(chains))
        monkeypatch.setenv("DURABLE_LLM_CHAINS", str(tmp_path / "chains.yaml"))
        async with serving(dispatcher) as front:
            seen = await ended(
                await start(
                    "-m", f"tests.adapters.clients.{program}", python=str(python_of(client)), FRONT=front.address,
                    LITELLM_LOCAL_MODEL_COST_MAP="True",
                )
            )  # fmt: skip
    assert seen == expected
    asked = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in wire.requests]
    assert sum(body["model"] == "broken" for body in asked) == ("error" in expected)
