"""lmi's model and ldp's agents as their users write them, with durable calls underneath."""

import json

import pytest
from temporalio.testing import WorkflowEnvironment

from tests.adapters.environments import printed
from tests.support.calls import completion
from tests.support.scripted import fresh_id
from tests.support.wire import playing
from tests.support.workers import working

pytestmark = pytest.mark.timeout(900)  # two programs, each of which may take PROGRAM_S

STEPS = [
    ("cast_float", {"x": "1.5"}), ("cast_int", {"x": 1.5}), ("cast_float", {"x": "2.5"}), ("cast_int", {"x": 2.5}),
    ("print_story", {"story": "It was a dark night."}),
]  # fmt: skip
"""What the model does in the dummy environment, step by step."""


def next_step(body: dict) -> dict:
    """The next tool call where there are tools, else a thought."""
    if not body.get("tools") or body.get("tool_choice") == "none":
        return {"body": completion("Thought: go on.")}
    done = sum(message["role"] == "tool" for message in body["messages"])
    name, arguments = STEPS[min(done, len(STEPS) - 1)]
    return {"body": completion(None, (name, json.dumps(arguments)), finish="tool_calls")}


def replies():
    """A model that knows what the program asks."""
    tried = iter(["bad", "good"])

    def reply(body: dict) -> dict:
        prompt = body["messages"][-1]["content"]
        if body["model"] == "broken":
            return {"http_status": 500, "body": {"error": {"message": "oops"}}}
        if body.get("tools"):
            return {"body": completion(None, ("weather", '{"city": "Oslo"}'), finish="tool_calls")}
        if body.get("n") == 2:
            both = completion("one")
            second = {**both["choices"][0], "index": 1, "message": {"role": "assistant", "content": "two"}}
            return {"body": {**both, "choices": [*both["choices"], second]}}
        if prompt == "Be good.":
            return {"body": completion(next(tried))}
        return {"body": completion('{"name": "Oslo"}' if prompt == "Which city?" else "hello")}

    return reply


async def test_lmis_model_is_durable(server_env: WorkflowEnvironment) -> None:
    """Every way to call it gives what lmi gives; a second run asks nothing again."""
    async with playing({"by_request": replies()}) as wire, working(server_env.client) as dispatcher:
        job_id = fresh_id()
        runs = [await printed("lmi", "lmi_calls", job_id, dispatcher=dispatcher, api_base=wire.url) for _ in range(2)]
    seen = runs[0]
    assert seen == runs[1]
    served = "gpt-4o-mini-2024-07-18"
    assert seen["plain"] == ["hello", served, 12, 3, True, "greeting", "stop", ["Message"], True]
    assert seen["tools"] == ["ToolRequestMessage", {"city": "Oslo"}]
    assert seen["no tools"] == "ToolRequestMessage"
    assert seen["typed"] == "Oslo"
    assert seen["callbacks"] == [["hello"], "hello"]
    assert seen["several"] == ["one", "two"]
    assert seen["validated"] == "good"
    assert seen["parsed"] == "HELLO"
    assert seen["fallback"] == "hello"
    assert seen["exhausted"][0] == "AllModelsExhaustedError"
    assert "durable(job)" in seen["without a job"]
    assert "os.environ/" in seen["key"]
    assert "a1B2" not in seen["key"]
    assert seen["selected"] == {"city": "Oslo"}
    assert seen["limited"]
    assert seen["calls"] == 13
    assert seen["tracked"] == 12
    asked = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in wire.requests]
    assert len([body for body in asked if body["messages"][-1]["content"] == "Be good."]) == 2


@pytest.mark.parametrize("agent", ["simple", "react"])
async def test_an_agent_of_ldp_takes_the_same_steps_again(server_env: WorkflowEnvironment, agent: str) -> None:
    """Its calls are calls of the job: run again, it has the same trajectory, and nothing is asked."""
    job_id = fresh_id()
    async with playing({"by_request": next_step}) as wire, working(server_env.client) as dispatcher:
        first = await printed("lmi", "ldp_agent", job_id, agent, dispatcher=dispatcher, api_base=wire.url)
        asked = len(wire.requests)
        again = await printed("lmi", "ldp_agent", job_id, agent, dispatcher=dispatcher, api_base=wire.url)
    assert first == again
    assert [observed for _, observed, _ in first][:4] == [["1.5"], ["1"], ["2.5"], ["2"]]
    assert len(first) == len(STEPS)
    assert asked == len(wire.requests)
    assert asked >= len(STEPS)
