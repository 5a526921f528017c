"""Telemetry against a real OTLP receiver: one span for each call and attempt, counted once, and nothing unasked."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import Client, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Plugin, Replayer, Worker

from activities.observation import observing, record_observation
from activities.wire.exchange import Exchange
from durable_llm import Dispatcher, DurableLLMError, LLMConfig, ModelSpec
from durable_llm.client.trace_context import TraceContext, active_trace
from durable_llm.contract.facts import FailureFacts, LocalFault
from durable_llm.contract.ledger import Usage
from durable_llm.contract.request import AttemptOrder, Prompt
from durable_llm.contract.result import Choice, FunctionCall, ToolCall
from durable_llm.contract.vectors import Vectors
from tests.conftest import Stage, stage, workflow_runner
from tests.support import ROOT
from tests.support.calls import until_waiting
from tests.support.otlp_receiver import Received, Receiver, receiving, wait_for
from tests.support.processes import ANSWER, outcome, start
from tests.support.scripted import ScriptedProvider, Step, answer, fresh_id, http_error, never
from tests.support.wire import playing
from workers.telemetry import exporting as telemetry
from workers.telemetry import message_content
from workers.telemetry.attempt_attributes import address_attributes, provider_name, request_model
from workers.telemetry.instruments import telemetry_errors_logged
from workers.telemetry.names import CALL_SPAN, CLASSIFIED_EVENT, METRICS, Attribute
from workflows.llm_call import LLMCall

HISTORIES = sorted((ROOT / "tests" / "support" / "histories").glob("*.json"))
ANSWERED = {"durable_llm.outcome": "answered"}
QUICK = {"OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_METRIC_EXPORT_INTERVAL": "150"}
WHERE = {"gen_ai.provider.name", "server.address", "server.port"}
"""Attributes that say where a request went."""
PROMPT = "Which of these two elephants is older, and by how many winters?"
KEY = "sk-planted-4f9a1c7e2b8d6053f1e2"


class Exported:
    """What a worker in this process is given, and what arrives from it."""

    def __init__(self, plugins: Sequence[Plugin], receiver: Receiver) -> None:
        self.plugins = list(plugins)
        self.receiver = receiver

    async def spans(self, call_id: str) -> tuple[Received, list[Received]]:
        """A call's span and its attempts', once the call's has arrived, which is exported last."""

        def arrived() -> list[Received]:
            spans = self.receiver.of_call(call_id)
            return spans if any(span.name == "durable_llm.call" for span in spans) else []

        spans = await asyncio.to_thread(wait_for, arrived)
        [call] = [span for span in spans if span.name == "durable_llm.call"]
        attempts = [span for span in spans if span is not call]
        return call, sorted(attempts, key=lambda span: span.attributes["durable_llm.attempt.number"])

    async def settled(self) -> Receiver:
        """The receiver, with all metrics up to now."""
        from opentelemetry import metrics

        assert await asyncio.to_thread(metrics.get_meter_provider().force_flush)
        return self.receiver


@pytest.fixture(scope="module")
def exported() -> Iterator[Exported]:
    """Telemetry installed in this process, as the worker does it; OpenTelemetry's providers can be set only once."""
    from opentelemetry import metrics, trace

    with receiving() as receiver, pytest.MonkeyPatch.context() as patch:
        for name, value in {**QUICK, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}.items():
            patch.setenv(name, value)
        with telemetry.exporting() as plugins:
            yield Exported(plugins, receiver)
        for provider in (trace.get_tracer_provider(), metrics.get_meter_provider()):
            provider.shutdown()


@asynccontextmanager
async def traced(env: WorkflowEnvironment, exported: Exported, *steps: Step, **options: Any) -> AsyncIterator[Stage]:
    """A stage with a caller that passes its trace on and a worker with telemetry."""
    client = Client(**{**env.client.config(), "interceptors": [TraceContext()]})
    async with stage(client, *steps, plugins=exported.plugins, **options) as ready:
        yield ready


def chain(**options: Any) -> LLMConfig:
    """Two models with names of their own, so that a test can tell its counters from another's."""
    mark = uuid.uuid4().hex[:8]
    first = ModelSpec(name=f"openai/first-{mark}", max_retries=1, **options)
    return LLMConfig(models=[first, ModelSpec(name=f"gemini/second-{mark}", max_retries=0)])


OVERLOADED = http_error(503, duration_s=0.1)
OUT_OF_QUOTA = http_error(429, "insufficient_quota", f"you asked: {PROMPT}", duration_s=0.2, request_id="req_9")


@pytest.mark.parametrize("cached", [100, 0])
async def test_one_trace_from_the_job_through_the_call_to_each_attempt(
    server_env: WorkflowEnvironment, exported: Exported, cached: int
) -> None:
    """The call's span is the job span's child, each attempt is one child of the call, replays add none."""
    from opentelemetry import trace

    steps = (OVERLOADED, OUT_OF_QUOTA, answer())
    async with traced(server_env, exported, *steps, max_cached_workflows=cached) as ready:
        with trace.get_tracer("job").start_as_current_span("job") as job:
            handle = await ready.dispatcher.submit(chain(), PROMPT, session="s-1")
        await handle.result()
        call, attempts = await exported.spans(handle.call_id)
    assert call.trace_id == f"{job.get_span_context().trace_id:032x}"
    assert call.parent_id == f"{job.get_span_context().span_id:016x}"
    assert {span.trace_id for span in attempts} == {call.trace_id}
    assert {span.parent_id for span in attempts} == {call.span_id}
    assert [span.attributes["durable_llm.attempt.number"] for span in attempts] == [1, 2, 3]
    assert all(span.client for span in attempts)
    assert not call.client
    assert call.attributes["gen_ai.conversation.id"] == "s-1"


@pytest.mark.parametrize("cached", [100, 0])
async def test_an_extended_call_has_a_span_for_each_run(
    server_env: WorkflowEnvironment, exported: Exported, cached: int
) -> None:
    """Each is the child of the one before, with its own attempts, and the call is counted once."""
    limited = http_error(429, retry_after_s=50.0)
    async with traced(server_env, exported, limited, answer(), max_cached_workflows=cached) as ready:
        handle = await ready.dispatcher.submit(chain(), PROMPT)
        await until_waiting(handle)
        await handle.extend(timedelta(days=2), why="it takes longer")
        await handle.retry(why="it is back")
        await handle.result()

        def arrived() -> list[Received]:
            spans = exported.receiver.of_call(handle.call_id)
            return spans if len(spans) == 4 else []

        spans = await asyncio.to_thread(wait_for, arrived)
    calls = [span for span in spans if not span.client]
    first, last = sorted(calls, key=lambda span: span.attributes["durable_llm.outcome"] == "answered")
    assert (first.attributes["durable_llm.outcome"], last.attributes["durable_llm.outcome"]) == ("running", "answered")
    assert (last.trace_id, last.parent_id) == (first.trace_id, first.span_id)
    parents = {span.attributes["durable_llm.attempt.number"]: span.parent_id for span in spans if span.client}
    assert parents == {1: first.span_id, 2: last.span_id}


async def test_a_call_without_a_job_span_is_a_trace_of_its_own(
    server_env: WorkflowEnvironment, exported: Exported
) -> None:
    """A caller that is not traced loses nothing; the call's own trace holds its attempts."""
    async with traced(server_env, exported, answer()) as ready:
        handle = await ready.dispatcher.submit(chain(), PROMPT)
        await handle.result()
        call, [attempt] = await exported.spans(handle.call_id)
    assert call.parent_id == ""
    assert attempt.trace_id == call.trace_id


async def test_a_connected_dispatcher_passes_the_trace_on_and_the_calls_time_begins_with_its_acceptance(
    server_env: WorkflowEnvironment, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is to be set up by a caller, and the time in which no worker was there is part of the call."""
    from opentelemetry import trace

    monkeypatch.setenv("TEMPORAL_ADDRESS", server_env.client.service_client.config.target_host)
    provider = ScriptedProvider([answer()])
    async with Dispatcher.connect(task_queue="otel-late") as dispatcher:
        with trace.get_tracer("job").start_as_current_span("job") as job:
            handle = await dispatcher.submit(chain(), PROMPT)
        await asyncio.sleep(0.6)
        async with Worker(
            server_env.client, task_queue="otel-late", workflows=[LLMCall], activities=[provider.provider_attempt],
            workflow_runner=workflow_runner(), plugins=exported.plugins,
        ):  # fmt: skip
            await handle.result()
            call, [attempt] = await exported.spans(handle.call_id)
    assert call.trace_id == attempt.trace_id == f"{job.get_span_context().trace_id:032x}"
    assert call.seconds >= 0.6


async def test_an_embedding_has_its_own_operation(server_env: WorkflowEnvironment, exported: Exported) -> None:
    """By the conventions, so that dashboards tell it from chat."""
    scripted = answer(vectors=Vectors.pack([[0.5, 0.25]]), usage=Usage(prompt_tokens=5, completion_tokens=0))
    async with traced(server_env, exported, scripted) as ready:
        call_id = fresh_id()
        await ready.dispatcher.embed("openai/made-up-embedding", ["a"], call_id=call_id)
        [description] = [
            call async for call in server_env.client.list_workflows(f"WorkflowId STARTS_WITH '{call_id}/'")
        ]
        _, [attempt] = await exported.spans(description.id)
    assert attempt.name == "embeddings made-up-embedding"
    assert attempt.attributes["gen_ai.operation.name"] == "embeddings"
    assert attempt.attributes["gen_ai.usage.input_tokens"] == 5


async def test_an_answered_attempt_says_what_the_conventions_ask(
    server_env: WorkflowEnvironment, exported: Exported
) -> None:
    """Every attribute of an answered attempt, and no other."""
    config = LLMConfig(models=[
        ModelSpec(
            name="azure/gpt-4o-mini", api_base="http://llm.internal:8080/v1",
            extra_params={"temperature": 0.5, "max_tokens": 64, "stop": ["secret word"]},
        )
    ])  # fmt: skip
    usage = Usage(prompt_tokens=50, completion_tokens=7, cache_read_tokens=40)
    async with traced(server_env, exported, answer(usage=usage, response_id="chatcmpl-1")) as ready:
        handle = await ready.dispatcher.submit(config, PROMPT)
        await handle.result()
        call, [attempt] = await exported.spans(handle.call_id)
    assert attempt.name == "chat gpt-4o-mini"
    assert attempt.seconds == pytest.approx(0.5, abs=0.001)
    assert not attempt.failed
    assert attempt.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "azure.ai.openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 64,
        "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 50,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 40,
        "server.address": "llm.internal",
        "server.port": 8080,
        "http.response.status_code": 200,
        "durable_llm.call_id": handle.call_id,
        "durable_llm.model": "azure/gpt-4o-mini",
        "durable_llm.attempt.number": 1,
        "durable_llm.attempt.try": 1,
        "durable_llm.outcome": "answered",
        "durable_llm.request_id": "req_1",
        "durable_llm.cost_usd": 0.01,
    }
    assert call.attributes == {
        "durable_llm.call_id": handle.call_id,
        "durable_llm.outcome": "answered",
        "durable_llm.attempts_total": 1,
        "durable_llm.cost_usd": 0.01,
        "durable_llm.cost_complete": True,
        "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
        "gen_ai.response.id": "chatcmpl-1",
    }
    assert exported.receiver.resource["service.name"] == "durable-llm-worker"


@pytest.mark.parametrize("cached", [100, 0])
async def test_a_call_with_a_retry_a_wait_and_a_fallback_is_traced_attribute_by_attribute(
    server_env: WorkflowEnvironment, exported: Exported, cached: int
) -> None:
    """Each span and event has what the conventions and the page say and nothing else, with and without replays."""
    config = chain()
    first, second = (spec.name.partition("/")[2] for spec in config.models)
    async with traced(server_env, exported, OVERLOADED, OUT_OF_QUOTA, answer(), max_cached_workflows=cached) as ready:
        handle = await ready.dispatcher.submit(config, PROMPT)
        result = await handle.result()
        call, attempts = await exported.spans(handle.call_id)
    assert [entry.decision for entry in result.attempts] == ["retry", "next", None]
    assert result.attempts[0].delay_s
    common = {"gen_ai.operation.name": "chat", "durable_llm.call_id": handle.call_id}
    to_first = {**common, "gen_ai.request.model": first, "durable_llm.model": f"openai/{first}"}
    failed = {"durable_llm.outcome": "failed", "durable_llm.cost_usd": 0.0}
    expected = [
        {
            **to_first, **failed, "durable_llm.attempt.number": 1, "durable_llm.attempt.try": 1,
            "error.type": "overloaded", "http.response.status_code": 503,
        },
        {
            **to_first, **failed, "durable_llm.attempt.number": 2, "durable_llm.attempt.try": 2,
            "error.type": "quota_exhausted", "http.response.status_code": 429, "durable_llm.request_id": "req_9",
            "durable_llm.error_code": "insufficient_quota", "durable_llm.previous.category": "overloaded",
            "durable_llm.previous.decision": "retry",
        },
        {
            **common, "gen_ai.request.model": second, "durable_llm.model": f"gemini/{second}",
            "durable_llm.attempt.number": 3, "durable_llm.attempt.try": 1, "durable_llm.outcome": "answered",
            "durable_llm.previous.category": "quota_exhausted", "durable_llm.previous.decision": "next",
            "http.response.status_code": 200, "durable_llm.request_id": "req_1", "durable_llm.cost_usd": 0.01,
            "gen_ai.response.model": "gpt-4o-mini-2024-07-18", "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 1,
        },
    ]  # fmt: skip
    seen = [{name: value for name, value in span.attributes.items() if name not in WHERE} for span in attempts]
    assert seen == expected
    assert [span.attributes["gen_ai.provider.name"] for span in attempts] == ["openai", "openai", "gcp.gemini"]
    assert [span.name for span in attempts] == [f"chat {first}", f"chat {first}", f"chat {second}"]
    assert [(span.client, span.failed, span.status) for span in attempts] == [
        (True, True, "503 failed"), (True, True, "429 insufficient_quota"), (True, False, ""),
    ]  # fmt: skip
    assert [attributes["durable_llm.decision"] for _, attributes in call.events[:2]] == ["retry", "next"]
    assert (call.attributes["durable_llm.attempts_total"], call.attributes["durable_llm.outcome"]) == (3, "answered")


async def test_a_failed_attempt_is_an_error_by_its_category_and_the_call_tells_the_decision(
    server_env: WorkflowEnvironment, exported: Exported
) -> None:
    """The ledger's words, the provider's code, and not the provider's sentence, which may repeat the prompt."""
    async with traced(server_env, exported, OUT_OF_QUOTA, answer()) as ready:
        config = chain()
        handle = await ready.dispatcher.submit(config, PROMPT)
        await handle.result()
        call, [failed, answered] = await exported.spans(handle.call_id)
    assert failed.failed
    assert failed.status == "429 insufficient_quota"
    said = failed.attributes
    assert (said["error.type"], said["durable_llm.error_code"]) == ("quota_exhausted", "insufficient_quota")
    assert (said["http.response.status_code"], said["durable_llm.request_id"]) == (429, "req_9")
    assert said["durable_llm.cost_usd"] == 0.0
    assert answered.attributes["durable_llm.previous.category"] == "quota_exhausted"
    assert answered.attributes["durable_llm.previous.decision"] == "next"
    assert answered.attributes["gen_ai.provider.name"] == "gcp.gemini"
    [(name, first), (_, second)] = call.events
    assert name == "durable_llm.attempt.judged"
    assert (first["durable_llm.category"], first["durable_llm.decision"]) == ("quota_exhausted", "next")
    assert first["durable_llm.model"] == config.models[0].name
    assert (second["durable_llm.outcome"], second["durable_llm.attempt.number"]) == ("answered", 2)
    assert not any(PROMPT.encode() in body for body in exported.receiver.bodies)


@pytest.mark.parametrize("cached", [100, 0])
async def test_attempts_calls_tokens_and_durations_are_counted_once(
    server_env: WorkflowEnvironment, exported: Exported, cached: int
) -> None:
    """Each attempt counts once by model, category and decision, however often the call is replayed."""
    config = chain()
    first, second = (spec.name for spec in config.models)
    before = sum(point.as_int for _, point in (await exported.settled()).points("durable_llm.calls", **ANSWERED))
    async with traced(server_env, exported, OVERLOADED, OUT_OF_QUOTA, answer(), max_cached_workflows=cached) as ready:
        await ready.dispatcher.call(config, PROMPT)
        receiver = await exported.settled()
    counted = {
        (said["durable_llm.model"], said.get("durable_llm.category"), said.get("durable_llm.decision")): point.as_int
        for said, point in receiver.points("durable_llm.attempts")
        if said["durable_llm.model"] in (first, second)
    }
    assert counted == {
        (first, "overloaded", "retry"): 1,
        (first, "quota_exhausted", "next"): 1,
        (second, None, None): 1,
    }
    [(_, calls)] = receiver.points("durable_llm.calls", **ANSWERED)
    assert calls.as_int == before + 1
    durations = receiver.points("gen_ai.client.operation.duration", **{"gen_ai.request.model": request_model(first)})
    assert {said["error.type"]: (point.count, point.sum) for said, point in durations} == {
        "overloaded": (1, 0.1), "quota_exhausted": (1, 0.2),
    }  # fmt: skip
    tokens = receiver.points("gen_ai.client.token.usage", **{"gen_ai.request.model": request_model(second)})
    assert {said["gen_ai.token.type"]: point.sum for said, point in tokens} == {"input": 5, "output": 1}
    assert list(durations[0][1].explicit_bounds)[:2] == [0.01, 0.02]
    assert list(tokens[0][1].explicit_bounds)[:3] == [1, 4, 16]


async def test_an_attempt_whose_worker_was_lost_has_a_span_too(
    server_env: WorkflowEnvironment, exported: Exported
) -> None:
    """Nobody else can end it, so the call does: two lost attempts are two spans, with replays in between."""

    async def silent(_: AttemptOrder) -> None:
        await asyncio.sleep(60)

    async with traced(
        server_env, exported, silent, silent, answer(), heartbeat_timeout_s=1.0, max_cached_workflows=0
    ) as ready:
        handle = await ready.dispatcher.submit(chain(), PROMPT)
        await handle.result()
        call, attempts = await exported.spans(handle.call_id)
    # The worker survives here, so it may end its own span of a lost attempt too, once it hears of the cancellation.
    attempts = [span for span in attempts if span.attributes["durable_llm.outcome"] != "cancelled"]
    assert [span.attributes.get("error.type") for span in attempts] == ["worker_lost", "worker_lost", None]
    assert len({span.span_id for span in attempts}) == 3
    assert {span.parent_id for span in attempts} == {call.span_id}
    assert 0.9 <= attempts[0].seconds < 10
    assert attempts[0].attributes["durable_llm.outcome"] == "unknown"


@pytest.mark.parametrize(
    ("last", "kind", "outcome"),
    [
        (FailureFacts(local_fault=LocalFault.BROKEN_VALIDATOR, answer=answer()), "BrokenValidatorError", "rejected"),
        (FailureFacts(local_fault=LocalFault.UNKNOWN_VALIDATOR), "UnsupportedRequestError", "rejected"),
        (http_error(400, text="Invalid schema for function 'f'"), "RequestRejectedError", "rejected"),
    ],
)
async def test_a_calls_span_has_the_outcome_that_its_handle_has(
    server_env: WorkflowEnvironment, exported: Exported, last: FailureFacts, kind: str, outcome: str
) -> None:
    """One table says which error is which outcome."""
    async with traced(server_env, exported, last) as ready:
        handle = await ready.dispatcher.submit(chain(), PROMPT)
        with pytest.raises(DurableLLMError) as raised:
            await handle.result()
        assert (await handle.status()).outcome == outcome
        call, _ = await exported.spans(handle.call_id)
    assert type(raised.value).__name__ == call.attributes["error.type"] == kind
    assert call.attributes["durable_llm.outcome"] == outcome


async def test_a_call_that_ends_without_an_answer_says_how(server_env: WorkflowEnvironment, exported: Exported) -> None:
    """An exhausted call is an error by its type; a cancelled one is none, and neither is its attempt."""
    async with traced(server_env, exported, http_error(401)) as ready:
        handle = await ready.dispatcher.submit(chain(), PROMPT)
        with suppress(DurableLLMError):
            await handle.result()
        call, _ = await exported.spans(handle.call_id)
    assert call.failed
    assert (call.attributes["durable_llm.outcome"], call.attributes["error.type"]) == (
        "exhausted", "AllModelsExhaustedError",
    )  # fmt: skip
    assert call.attributes["durable_llm.attempts_total"] == 2
    async with traced(server_env, exported, never, heartbeat_timeout_s=1.0) as ready:
        handle = await ready.dispatcher.submit(chain(), PROMPT)
        while not ready.provider.orders:
            await asyncio.sleep(0.02)
        await handle.cancel()
        with suppress(DurableLLMError):
            await handle.result()
        call, _ = await exported.spans(handle.call_id)
        [attempt] = await asyncio.to_thread(
            wait_for, lambda: [span for span in exported.receiver.of_call(handle.call_id) if span.client]
        )
    assert (call.failed, call.attributes["durable_llm.outcome"]) == (False, "cancelled")
    assert (attempt.failed, attempt.attributes["durable_llm.outcome"]) == (False, "cancelled")


async def test_telemetry_adds_nothing_to_a_calls_history(server_env: WorkflowEnvironment, exported: Exported) -> None:
    """A call moves between workers with telemetry and without: the same events, and each replays on the other."""
    steps = (OVERLOADED, OUT_OF_QUOTA, answer())
    histories: list[WorkflowHistory] = []
    for plugins in ([], exported.plugins):
        async with stage(server_env.client, *steps, plugins=plugins) as ready:
            handle = await ready.dispatcher.submit(chain(), PROMPT)
            await handle.result()
            histories.append(await ready.client.get_workflow_handle(handle.call_id).fetch_history())
    without, with_telemetry = histories
    assert [event.event_type for event in without.events] == [event.event_type for event in with_telemetry.events]
    await replayer([]).replay_workflow(with_telemetry)
    await replayer(exported.plugins).replay_workflow(without)
    await replayer(exported.plugins).replay_workflow(with_telemetry)


def replayer(plugins: list[Plugin]) -> Replayer:
    """Replays calls on a worker with these plugins."""
    return Replayer(
        workflows=[LLMCall],
        data_converter=pydantic_data_converter,
        workflow_runner=workflow_runner(),
        plugins=plugins,
    )


async def test_saved_histories_replay_with_telemetry_and_export_nothing(exported: Exported) -> None:
    """Recorded by workers without telemetry; a replay makes no span, no count and no other path."""
    counted = await exported.settled()
    before = {name: [point.SerializeToString() for point in points] for name, points in counted.metrics.items()}
    spans = len(counted.spans)
    for path in HISTORIES:
        await replayer(exported.plugins).replay_workflow(WorkflowHistory.from_json(path.stem, path.read_text()))
    counted = await exported.settled()
    assert len(counted.spans) == spans
    assert {name: len(points) for name, points in counted.metrics.items()} == {
        name: len(points) for name, points in before.items()
    }


@pytest.mark.proof
async def test_a_real_worker_exports_at_its_end_and_neither_texts_nor_keys(server_env: WorkflowEnvironment) -> None:
    """What waits in batches is sent before the process leaves; texts only where switched on, keys nowhere.

    The request to a host that the operator listed has the attempt's trace context.
    """
    quiet, open_ = await asyncio.gather(
        _one_call_on_a_real_worker(server_env, "quiet"),
        _one_call_on_a_real_worker(server_env, "open", **{telemetry.CONTENT_VARIABLE: "true"}),
    )
    for receiver in (quiet, open_):
        [attempt] = [span for span in receiver.spans if span.client]
        assert attempt.attributes["gen_ai.provider.name"] == "openai"
        assert attempt.attributes["server.address"] == "127.0.0.1"
        assert attempt.attributes["gen_ai.usage.input_tokens"] == 5
        assert receiver.points("gen_ai.client.operation.duration")
        assert receiver.points("durable_llm.attempts", **ANSWERED)
        assert not any(KEY.encode() in body for body in receiver.bodies)
    everything = b"".join(quiet.bodies)
    assert PROMPT.encode() not in everything
    assert b"elephants" not in everything
    assert b"forty-two winters" not in everything
    [attempt] = [span for span in open_.spans if span.client]
    [asked] = json.loads(attempt.attributes["gen_ai.input.messages"])
    assert asked["role"] == "user"
    assert asked["parts"][0]["content"].startswith(PROMPT)
    [said] = json.loads(attempt.attributes["gen_ai.output.messages"])
    assert said["parts"] == [{"type": "text", "content": "forty-two winters"}]
    assert said["finish_reason"] == "stop"


def test_a_provider_at_its_own_address_gets_no_trace_context() -> None:
    """It would learn which requests belong together, and needs nothing of it."""
    own, provider = Exchange(only_host="http://llm.internal"), Exchange()
    with observing() as seen:
        seen.trace = {"traceparent": "00-1-2-01"}
        for exchange in (own, provider):
            record_observation(provider="openai", prompt=Prompt(messages=[]), exchange=exchange, secrets=list)
    assert (own.trace, provider.trace) == (seen.trace, {})


async def _one_call_on_a_real_worker(env: WorkflowEnvironment, task_queue: str, **variables: str) -> Receiver:
    """What a worker process exports of one call, with a key in its environment and in the prompt, by its SIGTERM."""
    body = json.loads(json.dumps(ANSWER).replace('"7"', '"forty-two winters"'))
    case = {"http_status": 200, "headers": {"content-type": "application/json"}, "body": body}
    with receiving() as receiver:
        async with playing(case) as wire:
            process = await start(
                "-m", "workers", TEMPORAL_ADDRESS=env.client.service_client.config.target_host,
                DURABLE_LLM_TASK_QUEUE=f"otel-{task_queue}", DURABLE_LLM_API_BASE_HOSTS="127.0.0.1",
                DURABLE_LLM_KEYS="TEAM_KEY=127.0.0.1", TEAM_KEY=KEY,
                OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, OTEL_BSP_SCHEDULE_DELAY="600000", **variables,
            )  # fmt: skip
            assert process.stdout
            async with asyncio.timeout(90):
                line = await process.stdout.readline()
            assert b"worker ready" in line, await outcome(process)
            spec = ModelSpec(name="openai/gpt-4o-mini", api_base=wire.url, api_key="os.environ/TEAM_KEY")
            dispatcher = Dispatcher(env.client, task_queue=f"otel-{task_queue}")
            prompt = f"{PROMPT} {KEY} {'pad ' * 2000}"  # too long to travel with the attempt's order
            result = await dispatcher.call(spec, prompt)
            assert result.text == "forty-two winters"
            assert not receiver.spans
            process.send_signal(signal.SIGTERM)
            status, printed = await outcome(process)
            assert status == 0, printed
            assert KEY.encode() in b"".join(wire.requests)
            [attempt] = [span for span in receiver.spans if span.client]
            assert f"traceparent: 00-{attempt.trace_id}-{attempt.span_id}-01".encode() in wire.requests[0]
    return receiver


def test_without_variables_a_worker_imports_no_telemetry_and_a_caller_none_at_all() -> None:
    """Nothing is made, nothing is paid: the SDK and the exporters are not even loaded."""
    program = (
        "import sys, durable_llm; assert 'opentelemetry' not in sys.modules;"
        "from workers.telemetry.exporting import exporting; context = exporting(); assert context.__enter__() == ();"
        "import workers.worker; context.__exit__(None, None, None);"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    assert done.stdout.strip() == "[]"


ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.mark.parametrize(
    ("variables", "signals"),
    [
        ({}, set()),
        (ENDPOINT, {"traces", "metrics"}),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "true"}, set()),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, {"metrics"}),
        ({**ENDPOINT, "OTEL_METRICS_EXPORTER": "none"}, {"traces"}),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, {"traces"}),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://collector:4318/v1/metrics"}, {"metrics"}),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "console"}, {"metrics"}),
        ({"OTEL_SERVICE_NAME": "named"}, set()),
    ],
)
def test_the_standard_variables_say_what_is_exported(variables: dict[str, str], signals: set[str]) -> None:
    """An endpoint or an exporter switches a signal on, `none` and OTEL_SDK_DISABLED switch it off."""
    assert telemetry.wanted(variables) == signals


def test_what_cannot_be_done_is_said_and_the_worker_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A protocol that is not supported must not stop a worker, and must not be silent."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with telemetry.exporting() as plugins:
        assert plugins == ()
    assert "OTEL_EXPORTER_OTLP_PROTOCOL" in caplog.text


def test_a_second_worker_of_a_process_shares_its_telemetry(
    exported: Exported, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """OpenTelemetry's providers can be set once; a host that starts its worker again must not lose its spans."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", exported.receiver.url)
    with telemetry.exporting() as plugins:
        assert len(plugins) == len(exported.plugins)
    assert not caplog.text


@pytest.mark.proof
def test_a_tracer_provider_of_somebody_else_stays_and_is_named() -> None:
    """Temporal's plugin refuses another provider; a worker without telemetry is better than none."""
    program = (
        "from opentelemetry import trace; from opentelemetry.sdk.trace import TracerProvider; theirs = TracerProvider();"
        "trace.set_tracer_provider(theirs); from workers.telemetry.exporting import exporting;"
        "assert exporting().__enter__() == (); assert trace.get_tracer_provider() is theirs"
    )
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    assert "opentelemetry-instrument" in done.stderr


def test_what_fails_in_telemetry_is_told_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    """An answer was paid for: no fault of ours in describing it may lose it, and no text of it may be logged."""
    with telemetry_errors_logged():
        raise ValueError(PROMPT)
    assert "ValueError" in caplog.text
    assert PROMPT not in caplog.text


def test_a_collector_that_is_away_does_not_keep_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last spans get a few seconds, whatever the exporter's own patience is."""
    monkeypatch.setattr(telemetry, "FLUSH_S", 0.05)
    held = asyncio.Event()

    def flush() -> None:
        wait_for(held.is_set, 5)

    telemetry._flush([flush])
    held.set()


def test_only_an_active_span_is_passed_on(exported: Exported) -> None:
    """Outside of a span nothing travels, and baggage never does: it may hold anything."""
    from opentelemetry import baggage, context, trace

    assert active_trace() == {}
    token = context.attach(baggage.set_baggage("customer", "secret"))
    with trace.get_tracer("job").start_as_current_span("job"):
        assert set(active_trace()) == {"traceparent"}
    context.detach(token)


def test_messages_have_the_conventions_shape() -> None:
    """Texts, tool calls and their responses; images are named, not carried; every text is cleaned."""
    prompt = Prompt(
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {}}]},
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
            ]},
            {"role": "tool", "tool_call_id": "1", "content": "a cat"},
        ],
        tools=[{"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {}}}],
    )  # fmt: skip
    assert json.loads(message_content.input_messages(prompt, str.upper)) == [
        {"role": "system", "parts": [{"type": "text", "content": "BE BRIEF."}]},
        {"role": "user", "parts": [{"type": "text", "content": "WHAT IS IT?"}, {"type": "image_url"}]},
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "1", "name": "look", "arguments": "{}"}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "1", "response": "A CAT"}]},
    ]
    assert json.loads(message_content.tool_definitions(prompt, str)) == [
        {"type": "function", "name": "look", "description": "Looks."}
    ]
    choice = Choice(tool_calls=[ToolCall(id="2", function=FunctionCall(name="look"))], finish_reason="tool_calls")
    assert json.loads(message_content.output_messages([choice], str)) == [
        {"role": "assistant", "finish_reason": "tool_calls",
         "parts": [{"type": "tool_call", "id": "2", "name": "look", "arguments": ""}]},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("api.openai.com", "api.openai.com", 443),
        ("127.0.0.1:8000", "127.0.0.1", 8000),
        ("http://llm.internal/v1", "llm.internal", 80),
        ("[::1]:8000", "::1", 8000),
    ],
)
def test_an_address_is_a_host_and_a_port(address: str, host: str, port: int) -> None:
    """Never a path, a query or a credential."""
    assert address_attributes(address) == {"server.address": host, "server.port": port}


def test_addresses_and_names_that_are_none_are_left_out() -> None:
    """A strange spec must not fail its attempt."""
    assert address_attributes("http://[") == {}
    assert (provider_name("bedrock"), provider_name("my_proxy")) == ("aws.bedrock", "my_proxy")
    assert (request_model("openrouter/meta/llama"), request_model("gpt-4o")) == ("meta/llama", "gpt-4o")


def test_the_page_names_what_is_exported() -> None:
    """`docs/telemetry.md` explains each attribute, span and metric of the code, and no other."""
    page = (ROOT / "docs" / "telemetry.md").read_text()
    first_cells = set(re.findall(r"^\| `([^`]+)`", page, re.MULTILINE))
    named = {str(name) for name in Attribute} | {metric.name for metric in METRICS} | {CALL_SPAN, CLASSIFIED_EVENT}
    assert {name for name in first_cells if name.islower() and "{" not in name and "/" not in name} == named
    for metric in METRICS:
        by = ", ".join(f"`{name}`" for name in metric.attributes)
        assert f"| `{metric.name}` | {metric.kind} | `{metric.unit}` | {metric.about} By {by}. |" in page


def test_names_of_the_conventions_are_theirs() -> None:
    """Every gen_ai, server, http and error name is one that OpenTelemetry's own package knows."""
    from opentelemetry.semconv._incubating.attributes import (
        error_attributes,
        gen_ai_attributes,
        http_attributes,
        server_attributes,
    )

    known = {
        value
        for module in (error_attributes, gen_ai_attributes, http_attributes, server_attributes)
        for value in vars(module).values()
        if isinstance(value, str)
    }
    theirs = [name for name in Attribute if not name.startswith("durable_llm.")]
    assert theirs
    assert set(theirs) <= known
    assert all(re.fullmatch(r"durable_llm\.[a-z_.]+", name) for name in set(Attribute) - set(theirs))
