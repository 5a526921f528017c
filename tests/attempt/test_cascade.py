"""A chain across APIs and providers over real HTTP: each model is sent the same conversation on its own wire."""

import pytest
from llmock.scenarios import Fail, Reply, ToolCall
from llmock.testing import LLMockServer

from durable_llm import LLMConfig, ModelSpec
from durable_llm.contract.categories import Category
from tests.support.attempts import TOOLS
from tests.support.workers import QUICK, working

CALL = {"id": "call_7", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'}}
CONVERSATION = [
    {"role": "system", "content": "Be terse."},
    {"role": "user", "content": "How is the weather in Rome?"},
    {"role": "assistant", "tool_calls": [CALL], "response_id": "resp_1", "provider": "openai"},
    {"role": "tool", "tool_call_id": "call_7", "content": "sunny"},
    {"role": "user", "content": "And in Oslo?"},
]


@pytest.fixture(scope="module")
def servers():
    """Three providers, each at an address of its own."""
    with LLMockServer() as first, LLMockServer() as second, LLMockServer() as third:
        yield first, second, third


def each_fails_once(servers, *statuses: int, reply: Reply) -> None:
    """Each server fails once, with its own status, and would answer from then on."""
    for server, status in zip(servers, statuses, strict=True):
        server.state.journal.clear()
        server.state.scenarios.clear()
        server.state.scenarios.add(Fail(status, retry_after=1 if status == 429 else None), reply)


def bodies(server: LLMockServer) -> list[dict]:
    """What a provider was sent, request by request."""
    return [record.body for record in server.state.journal.records()]


def chain(servers, third: ModelSpec) -> LLMConfig:
    """Responses on one provider, chat on a second, and `third`."""
    first, second, _ = servers
    return LLMConfig(models=[
        ModelSpec(name="openai/gpt-4o-mini", api_base=first.base_url("openai"), responses_api=True, max_retries=0),
        ModelSpec(name="anthropic/claude-haiku-4-5", api_base=second.base_url("anthropic"), max_retries=0),
        third,
    ])  # fmt: skip


async def test_a_cascade_of_three_with_every_hop_failing_once(servers, skipping_env):
    """Responses, then Anthropic's chat, then OpenAI's with tools, which is asked again after the wait it asked for."""
    third = ModelSpec(name="openai/gpt-4o", api_base=servers[2].base_url("openai"), max_retries=1)
    reply = Reply(tool_calls=(ToolCall("get_weather", {"city": "Oslo"}),))
    each_fails_once(servers, 503, 529, 429, reply=reply)
    async with working(skipping_env.client, **QUICK) as dispatcher, skipping_env.time_skipping_unlocked():
        result = await dispatcher.call(chain(servers, third), CONVERSATION, tools=TOOLS)

    assert [(entry.spec_index, entry.try_number, entry.category) for entry in result.attempts] == [
        (0, 1, Category.OVERLOADED), (1, 1, Category.OVERLOADED), (2, 1, Category.RATE_LIMITED), (2, 2, None),
    ]  # fmt: skip
    assert result.attempts[2].delay_s >= 1.0
    assert result.tool_calls[0].function.parsed_arguments() == {"city": "Oslo"}
    assert result.cost_complete
    [responses], [anthropic], [chat, again] = map(bodies, servers)
    _check_responses(responses)
    _check_anthropic(anthropic)
    _check_chat(chat)
    assert again == chat


async def test_each_hop_fails_once_and_is_asked_again_where_it_may_be(servers, skipping_env):
    """With retries left the first model answers by itself, from the stored response, and nobody else is asked."""
    third = ModelSpec(name="openai/gpt-4o", api_base=servers[2].base_url("openai"))
    models = [spec.model_copy(update={"max_retries": 1}) for spec in chain(servers, third).models]
    each_fails_once(servers, 429, 500, 500, reply=Reply(text="Snow."))
    async with working(skipping_env.client, **QUICK) as dispatcher, skipping_env.time_skipping_unlocked():
        result = await dispatcher.call(LLMConfig(models=models), CONVERSATION, tools=TOOLS)

    assert (result.text, result.spec_index, result.attempts_total) == ("Snow.", 0, 2)
    first, second = bodies(servers[0])
    assert first == second
    _check_responses(first)
    assert bodies(servers[1]) == bodies(servers[2]) == []


async def test_from_responses_to_chat_and_back(servers, skipping_env):
    """The model after the chat model goes on from the stored response, as the first one would have."""
    third = ModelSpec(name="openai/gpt-4.1", api_base=servers[2].base_url("openai"), responses_api=True)
    each_fails_once(servers, 503, 503, 503, reply=Reply(text="Snow."))
    async with working(skipping_env.client, **QUICK) as dispatcher, skipping_env.time_skipping_unlocked():
        result = await dispatcher.call(chain(servers, third), CONVERSATION, tools=TOOLS)

    assert (result.text, result.spec_index) == ("Snow.", 2)
    [first], [chat], [third_body, again] = map(bodies, servers)
    _check_responses(first)
    _check_anthropic(chat)
    _check_responses(third_body)
    assert again == third_body


def _check_responses(body: dict) -> None:
    """The stored response is named, and only what follows it is sent."""
    assert body["previous_response_id"] == "resp_1"
    assert body["instructions"] == "Be terse."
    assert body["input"] == [
        {"type": "function_call_output", "call_id": "call_7", "output": "sunny"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "And in Oslo?"}]},
    ]
    assert [tool["name"] for tool in body["tools"]] == ["get_weather"]


def _check_anthropic(body: dict) -> None:
    """The whole conversation in Anthropic's blocks."""
    assert [part["text"] for part in body["system"]] == ["Be terse."]
    blocks = [block for message in body["messages"] for block in message["content"]]
    assert [block["type"] for block in blocks] == ["text", "tool_use", "tool_result", "text"]
    assert (blocks[1]["id"], blocks[1]["input"]) == ("call_7", {"city": "Rome"})
    assert blocks[2]["tool_use_id"] == "call_7"
    assert [tool["input_schema"]["type"] for tool in body["tools"]] == ["object"]
    assert "resp_1" not in str(body)


def _check_chat(body: dict) -> None:
    """The whole conversation in OpenAI's messages, without what only Responses knows."""
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "tool", "user"]
    assert body["messages"][2]["tool_calls"] == [CALL]
    assert not {"response_id", "provider"} & set(body["messages"][2])
    assert body["tools"] == TOOLS
