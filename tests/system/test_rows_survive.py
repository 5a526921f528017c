"""Every kind of answer survives a worker that is killed in mid-attempt: one kill, and a row for each kind.

A row is a request and the bodies that answer it. Its provider leaves the first request open until the worker that made
it is dead; the second worker asks again and brings the answer home.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
from pydantic import BaseModel
from temporalio.testing import WorkflowEnvironment

from durable_llm import Category, Dispatcher, LLMConfig, LLMResult, ModelSpec, Policy
from tests.attempt.test_tools import CONVERSATION, NAMED
from tests.support.attempts import TOOLS
from tests.support.calls import ServesInTurn, completion, in_turn
from tests.support.processes import worker
from tests.support.responses import TEXT, response
from tests.support.wire import playing


class Prime(BaseModel):
    prime: int


@dataclass(frozen=True)
class Row:
    """A kind of answer: how it is asked for, what answers it, and what must come of it."""

    name: str
    body: dict | tuple[dict, ...]
    """The answer; of several, all but the last are bad samples."""
    holds: Callable[[LLMResult], bool]
    model: str = "openai/gpt-4o-mini"
    spec: dict = field(default_factory=dict)
    config: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)
    messages: str | list = "Name a prime."
    before: tuple[tuple[ModelSpec, dict], ...] = ()
    """Models of the chain that refuse before it is asked, and in which words."""

    @property
    def bodies(self) -> tuple[dict, ...]:
        return self.body if isinstance(self.body, tuple) else (self.body,)


ROME = ("get_weather", '{"city": "Rome"}')
REFUSED = {"http_status": 401, "body": {"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}}
OVERLOADED = {"http_status": 529, "body": {"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}}}


def calls(*cities: str) -> Callable[[LLMResult], bool]:
    """Whether the answer asks for the weather of `cities`."""
    return lambda result: [call.function.parsed_arguments()["city"] for call in result.tool_calls] == list(cities)


ROWS = [
    Row(
        "the Responses API",
        response(TEXT),
        lambda result: result.text == "seven" and str(result.response_id).startswith("resp_"),
        spec={"responses_api": True},
    ),
    Row("tools", completion(None, ROME), calls("Rome"), options={"tools": TOOLS, "tool_choice": "required"}),
    Row("a named tool", completion(None, ROME), calls("Rome"), options={"tools": TOOLS, "tool_choice": NAMED}),
    Row(
        "parallel calls after tool results",
        completion(None, ROME, ("get_weather", '{"city": "Oslo"}')),
        calls("Rome", "Oslo"),
        options={"tools": TOOLS},
        messages=[*CONVERSATION, {"role": "user", "content": "And now?"}],
    ),
    Row(
        "a bad sample first",
        (completion(None, ("get_weather", "{city: Rome}")), completion(None, ROME)),
        lambda result: calls("Rome")(result) and result.attempts[1].category == Category.BAD_SAMPLE,
        options={"tools": TOOLS, "policy": Policy(backoff_initial=0.01)},
    ),
    Row(
        "the third of a cascade",
        completion(None, ROME),
        lambda result: calls("Rome")(result) and result.spec_index == 2,
        options={"tools": TOOLS},
        before=(
            (ModelSpec(name="openai/gpt-4o-mini", responses_api=True, max_retries=0), REFUSED),
            (ModelSpec(name="anthropic/claude-haiku-4-5", max_retries=0), OVERLOADED),
        ),
    ),
    Row(
        "tools written as text",
        completion('<tool_call>{"name": "get_weather", "arguments": {"city": "Rome"}}</tool_call>'),
        calls("Rome"),
        config={"tool_parser": "hermes"},
        options={"tools": TOOLS},
    ),
    Row(
        "structured, strict",
        completion('{"prime": 7}'),
        lambda result: result.parsed == Prime(prime=7),
        options={"response_format": Prime},
    ),
    Row(
        "structured, JSON mode",
        completion('```json\n{"prime": 7}\n```'),
        lambda result: result.parsed == {"prime": 7},
        model="openai/qwen3",
        options={"response_format": Prime.model_json_schema()},
    ),
    Row(
        "validated",
        completion("11"),
        lambda result: result.text == "11",
        options={"validators": ["non_empty", {"name": "prime", "parameters": {"above": 7}}]},
    ),
]
_BEATS = {"DURABLE_LLM_HEARTBEAT_TIMEOUT_S": "8"}
_PLUGINS = {"DURABLE_LLM_PLUGINS": "tests.support.plugin_checks"}


@dataclass
class Survivor:
    """A row whose first worker was killed."""

    row: Row
    wire: ServesInTurn
    result: LLMResult


@pytest.fixture(scope="module")
async def survivors(server_env: WorkflowEnvironment) -> dict[str, Survivor]:
    """All rows, started on one worker that is killed while all their requests are open, ended by another."""
    async with AsyncExitStack() as stack, Dispatcher(server_env.client, task_queue="rows") as dispatcher:
        wires = [await stack.enter_async_context(in_turn(*row.bodies, hangs_first=True)) for row in ROWS]
        chains = [await chain(row, wire, stack) for row, wire in zip(ROWS, wires, strict=True)]
        async with worker(server_env, "rows", **_BEATS, **_PLUGINS) as first:
            handles = [
                await dispatcher.submit(models, row.messages, **row.options)
                for row, models in zip(ROWS, chains, strict=True)
            ]
            async with asyncio.timeout(60):
                await asyncio.gather(*(wire.asked.wait() for wire in wires))
            first.kill()
            await first.wait()
        async with worker(server_env, "rows", **_BEATS, **_PLUGINS), asyncio.timeout(60):
            results = await asyncio.gather(*(handle.result() for handle in handles))
    return {row.name: Survivor(row, *rest) for row, *rest in zip(ROWS, wires, results, strict=True)}


async def chain(row: Row, wire: ServesInTurn, stack: AsyncExitStack) -> LLMConfig:
    """The models that refuse, each at an address of its own, and the one that answers at `wire`."""
    refusing = [await stack.enter_async_context(playing(case)) for _, case in row.before]
    before = [
        spec.model_copy(update={"api_base": other.url})
        for (spec, _), other in zip(row.before, refusing, strict=True)
    ]  # fmt: skip
    answers = ModelSpec(name=row.model, api_base=wire.url, **row.spec)
    return LLMConfig(models=[*before, answers], **row.config)


@pytest.mark.parametrize("name", [row.name for row in ROWS])
async def test_a_killed_worker_takes_no_answer_along(survivors: dict[str, Survivor], name: str) -> None:
    """The lost attempt is in the ledger with its unknown cost; the same request again brings the answer."""
    survivor = survivors[name]
    *refused, lost = survivor.result.attempts[: len(survivor.row.before) + 1]
    *bad, answered = survivor.result.attempts[len(survivor.row.before) + 1 :]

    assert survivor.row.holds(survivor.result)
    assert (lost.category, lost.outcome, lost.cost) == (Category.WORKER_LOST, "unknown", None)
    assert answered.outcome == "answered"
    assert [entry.spec_index for entry in refused] == list(range(len(survivor.row.before)))
    assert len(bad) == len(survivor.row.bodies) - 1
    first, *again = survivor.wire.bodies
    assert again == [first] * len(survivor.row.bodies)
