"""Every kind of answer survives a worker that is killed in mid-attempt: one kill, and a row for each kind.

A row is a request and the body that answers it. Its provider leaves the first request open until the worker that made it
is dead; the second worker asks again and brings the answer home.
"""

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
from pydantic import BaseModel
from temporalio.testing import WorkflowEnvironment

from durable_llm import Category, Dispatcher, LLMConfig, LLMResult, ModelSpec
from tests.support_attempts import TOOLS
from tests.support_calls import Turns, completion, in_turn
from tests.support_processes import worker
from tests.support_responses import TEXT, response


class Prime(BaseModel):
    prime: int


@dataclass(frozen=True)
class Row:
    """A kind of answer: how it is asked for, what answers it, and what must come of it."""

    name: str
    body: dict
    holds: Callable[[LLMResult], bool]
    model: str = "openai/gpt-4o-mini"
    spec: dict = field(default_factory=dict)
    config: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)


ROWS = [
    Row(
        "the Responses API",
        response(TEXT),
        lambda result: result.text == "seven" and str(result.response_id).startswith("resp_"),
        spec={"responses_api": True},
    ),
    Row(
        "tools",
        completion(None, ("get_weather", '{"city": "Rome"}')),
        lambda result: result.tool_calls[0].function.parsed_arguments() == {"city": "Rome"},
        options={"tools": TOOLS, "tool_choice": "required"},
    ),
    Row(
        "tools written as text",
        completion('<tool_call>{"name": "get_weather", "arguments": {"city": "Rome"}}</tool_call>'),
        lambda result: result.tool_calls[0].function.parsed_arguments() == {"city": "Rome"},
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
_BEATS = {"DURABLE_LLM_HEARTBEAT_TIMEOUT_S": "8", "DURABLE_LLM_HEARTBEAT_INTERVAL_S": "1"}
_PLUGINS = {"DURABLE_LLM_PLUGINS": "tests.plugin_checks"}


@dataclass
class Survivor:
    """A row whose first worker was killed."""

    row: Row
    wire: Turns
    result: LLMResult


@pytest.fixture(scope="module")
async def survivors(server_env: WorkflowEnvironment) -> dict[str, Survivor]:
    """All rows, started on one worker that is killed while all their requests are open, ended by another."""
    async with AsyncExitStack() as stack, Dispatcher(server_env.client, task_queue="rows") as dispatcher:
        wires = [await stack.enter_async_context(in_turn(row.body, hangs_first=True)) for row in ROWS]
        async with worker(server_env, "rows", **_BEATS, **_PLUGINS) as first:
            handles = [
                await dispatcher.submit(
                    LLMConfig(models=[ModelSpec(name=row.model, api_base=wire.url, **row.spec)], **row.config),
                    "Name a prime.", **row.options,
                )
                for row, wire in zip(ROWS, wires, strict=True)
            ]  # fmt: skip
            async with asyncio.timeout(60):
                await asyncio.gather(*(wire.asked.wait() for wire in wires))
            first.kill()
            await first.wait()
        async with worker(server_env, "rows", **_BEATS, **_PLUGINS), asyncio.timeout(60):
            results = await asyncio.gather(*(handle.result() for handle in handles))
    return {row.name: Survivor(row, *rest) for row, *rest in zip(ROWS, wires, results, strict=True)}


@pytest.mark.parametrize("name", [row.name for row in ROWS])
async def test_a_killed_worker_takes_no_answer_along(survivors: dict[str, Survivor], name: str) -> None:
    """The lost attempt is in the ledger with its unknown cost; the same request again brings the answer."""
    survivor = survivors[name]
    lost, answered = survivor.result.attempts

    assert survivor.row.holds(survivor.result)
    assert (lost.category, lost.outcome, lost.cost) == (Category.WORKER_LOST, "unknown", None)
    assert answered.outcome == "answered"
    before, again = (json.loads(request.partition(b"\r\n\r\n")[2]) for request in survivor.wire.requests)
    assert before == again
