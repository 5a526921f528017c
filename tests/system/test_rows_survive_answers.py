"""Each kind of answer survives a worker killed in mid-attempt: one process asks and dies, a second one asks again.

All rows run at once through the same two processes. The provider holds every request open until the first worker is
dead; what the second one brings back is compared with what the row expects, and the request with the first one's.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import pytest
from temporalio.testing import WorkflowEnvironment

from durable_llm import Category, Dispatcher, LLMConfig, LLMResult, ModelSpec
from tests.attempt.test_images import INLINE, PIXEL, image
from tests.attempt.test_messages import CALL, CLAUDES, HIDDEN, THOUGHT
from tests.attempt.test_offered_tools import FOUND, SEARCHED
from tests.support.attempts import TOOLS
from tests.support.bodies import anthropic, choice, gemini, openai, sent
from tests.support.processes import worker
from tests.support.wire import Wire, playing

OPENAI, ANTHROPIC, GEMINI = "openai/gpt-4o-mini", "anthropic/claude-haiku-4-5", "gemini/gemini-2.5-flash"
QUEUE = "rows-of-answers"
# A worker's first call of each provider imports its adapter, for a second or two without a heartbeat.
BEATS = {"DURABLE_LLM_HEARTBEAT_TIMEOUT_S": "4"}
SHOWN = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, image(INLINE)]}]
ELSEWHERE = [{"role": "user", "content": [{"type": "text", "text": "?"}, image("http://pictures.example/a.png")]}]
LIKELIEST = [{"token": token, "logprob": -share, "bytes": None} for token, share in (("seven", 0.5), ("two", 1.5))]
LOGPROBS = {"content": [{"token": "seven", "logprob": -0.5, "bytes": None, "top_logprobs": LIKELIEST}], "refusal": None}
SAFE = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_ONLY_HIGH"}]


class Row(NamedTuple):
    """A kind of answer: who is asked what, and what must come of it."""

    model: str
    body: dict
    expected: dict[str, Any]
    """Fields of the result; a dot goes into the first choice or the usage."""
    asked: dict[str, Any] = {}  # noqa: RUF012  # a NamedTuple's default, never changed
    """Fields of the request; a dot goes deeper."""
    parameters: dict[str, Any] = {}  # noqa: RUF012  # as above
    messages: Any = "Name a prime."
    before: ModelSpec | None = None
    """A model of the chain that refuses before it is asked."""


ROWS = {
    "several choices": Row(
        OPENAI, openai(choice(content="seven"), choice(content="eleven")),
        {"texts": ["seven", "eleven"]}, {"n": 2}, {"n": 2},
    ),
    "reasoning": Row(
        "deepseek/deepseek-chat", openai(choice(content="seven", reasoning_content="Odd.")),
        {"text": "seven", "reasoning_content": "Odd.", "provider": "deepseek"},
    ),
    "thinking blocks": Row(
        ANTHROPIC, anthropic(THOUGHT, HIDDEN, {"type": "text", "text": "seven"}),
        {"text": "seven", "choice.thinking_blocks": [THOUGHT, HIDDEN]},
    ),
    "a tool that the provider runs": Row(
        ANTHROPIC, anthropic(SEARCHED, FOUND, {"type": "text", "text": "seven"}), {"text": "seven", "tool_calls": []},
        {"tools.0.name": "web_search"}, {"web_search_options": {}},
    ),
    "thought signatures": Row(
        GEMINI, gemini({"functionCall": {"name": "get_weather", "args": {}}, "thoughtSignature": "SIG"}),
        {"choice.provider_specific_fields": {"thought_signatures": ["SIG"]}, "finish_reason": "tool_calls"},
        parameters={"tools": TOOLS},
    ),
    "another provider's transcript": Row(
        OPENAI, openai(), {"text": "seven"},
        {"messages.2": {"role": "assistant", "content": "Let me look.", "tool_calls": [CALL]}}, messages=CLAUDES,
    ),
    "an image": Row(
        ANTHROPIC, anthropic(), {"text": "seven"}, {"messages.0.content.1.source.data": PIXEL}, messages=SHOWN,
    ),
    "an image elsewhere": Row(
        OPENAI, openai(), {"text": "seven", "spec_index": 1}, {"messages": ELSEWHERE}, messages=ELSEWHERE,
        before=ModelSpec(name=ANTHROPIC, api_base="http://127.0.0.1:9"),
    ),
    "log probabilities": Row(
        OPENAI, openai(choice(content="seven", logprobs=LOGPROBS)),
        {"choice.logprobs": LOGPROBS, "choice.logprob_sum": -0.5, "spec_index": 1}, {"logprobs": True, "top_logprobs": 2},
        {"logprobs": True, "top_logprobs": 2},
        before=ModelSpec(name=ANTHROPIC, api_base="http://127.0.0.1:9", extra_params={"logprobs": True}),
    ),
    "cached tokens": Row(
        ANTHROPIC, anthropic(usage={"input_tokens": 20, "output_tokens": 3, "cache_read_input_tokens": 60,
                                    "cache_creation_input_tokens": 40}),
        {"usage.cache_read_tokens": 60, "usage.cache_creation_tokens": 40, "usage.prompt_tokens": 120},
    ),
    "a seed": Row(
        OPENAI, openai(system_fingerprint="fp_1"), {"system_fingerprint": "fp_1"}, {"seed": 7}, {"seed": 7},
    ),
    "safety settings": Row(
        GEMINI, gemini(), {"text": "seven"}, {"safetySettings": SAFE}, {"safety_settings": SAFE},
    ),
    "parameters of each spec": Row(
        OPENAI, openai(), {"text": "seven", "spec_index": 1}, {"temperature": 0.5, "top_k": None, "n": None},
        {"temperature": 0.5},
        before=ModelSpec(name=ANTHROPIC, api_base="http://127.0.0.1:9", extra_params={"top_k": 3, "n": 2}),
    ),
}  # fmt: skip

Outcomes = dict[str, tuple[LLMResult, list[dict]]]


@pytest.fixture(scope="module")
async def outcomes(server_env: WorkflowEnvironment) -> AsyncIterator[Outcomes]:
    """Every row's result and requests, after the first worker's death and by the second worker's hand."""
    async with AsyncExitStack() as stack, Dispatcher(server_env.client, task_queue=QUEUE) as dispatcher:
        wires = {name: await stack.enter_async_context(playing({"fault": "timeout"})) for name in ROWS}
        async with worker(server_env, QUEUE, **BEATS) as doomed:
            handles = {name: await dispatcher.submit(*call_of(row, wires[name])) for name, row in ROWS.items()}
            async with asyncio.timeout(120):
                await asyncio.gather(*(wire.asked.wait() for wire in wires.values()))
            doomed.send_signal(signal.SIGKILL)
            await doomed.wait()
        for name, wire in wires.items():
            wire.case = {"body": ROWS[name].body}
        async with worker(server_env, QUEUE, **BEATS), asyncio.timeout(120):
            results = await asyncio.gather(*(handle.result() for handle in handles.values()))
        told = {name: [sent(request) for request in wire.requests] for name, wire in wires.items()}
        yield {name: (result, told[name]) for name, result in zip(handles, results, strict=True)}


def call_of(row: Row, wire: Wire) -> tuple[LLMConfig, Any]:
    """The chain that a row asks, and with what."""
    spec = ModelSpec(name=row.model, api_base=wire.url, extra_params=row.parameters)
    return LLMConfig(models=[*([row.before] if row.before else []), spec]), row.messages


def field(result: LLMResult, name: str) -> Any:
    """One of an expectation's fields."""
    if name == "texts":
        return [answered.text for answered in result.choices]
    first, _, rest = name.partition(".")
    return getattr({"choice": result.choices[0], "usage": result.usage}[first], rest) if rest else getattr(result, name)


def within(body: Any, path: str) -> Any:
    """What is in a request's body under `path`; None where there is nothing."""
    for step in path.split("."):
        body = body[int(step)] if isinstance(body, list) else body.get(step)
    return body


@pytest.mark.parametrize("name", ROWS)
def test_a_row_survives_a_killed_worker(outcomes: Outcomes, name: str) -> None:
    """The lost attempt is in the ledger, the second request is the first one again, and the answer is whole."""
    result, requests = outcomes[name]
    row = ROWS[name]

    assert {path: field(result, path) for path in row.expected} == row.expected
    assert {path: within(requests[-1], path) for path in row.asked} == row.asked
    assert len(requests) > 1
    assert all(request == requests[0] for request in requests)
    categories = [entry.category for entry in result.attempts]
    assert set(categories[:-1]) == {Category.WORKER_LOST, *([Category.PROVIDER_LIMIT] if row.before else [])}
    assert categories[-1] is None
    assert result.text or result.tool_calls
