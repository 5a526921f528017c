"""What a response may cost, where a request may go, and Azure's version of the API."""

import gzip
import json
import time

import pytest
from temporalio.exceptions import ApplicationError

from activities.faults import LocalFaultError
from activities.request.build import check_spec
from activities.secrets.providers import SELF_HOSTED
from durable_llm import ModelSpec
from durable_llm.contract.config import ModelSpecOnWire
from durable_llm.contract.facts import FailureFacts, LocalFault
from durable_llm.contract.policy import Policy
from durable_llm.contract.result import Answer
from tests.support.attempts import attempt, order, ring
from tests.support.wire import playing
from workflows.policy.decide import Progress
from workflows.policy.versions import CURRENT, VERSIONS

CHOICE = {"index": 0, "message": {"role": "assistant", "content": "two"}, "finish_reason": "stop"}
ANSWER = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [CHOICE]}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOKEN = {"token": "a", "logprob": -1.0, "bytes": None, "top_logprobs": []}


async def outcome(case: dict, **spec: object) -> Answer | FailureFacts:
    """The answer or the facts of one attempt."""
    async with playing(case) as wire:
        try:
            return await attempt(order("openai/m", wire.url, **spec))
        except ApplicationError as error:
            return error.details[0]


@pytest.mark.parametrize(
    "body",
    [
        {**ANSWER, "choices": [CHOICE] * 500_000},
        {**ANSWER, "choices": [{**CHOICE, "message": {**CHOICE["message"], "tool_calls": [CALL] * 100_000}}]},
        {**ANSWER, "choices": [{**CHOICE, "logprobs": {"content": [TOKEN] * 210_000}}]},
    ],
    ids=["choices", "tool calls", "log probabilities"],
)  # fmt: skip
async def test_a_response_with_too_many_parts_is_refused_before_litellm_reads_it(body: dict) -> None:
    """The next model is asked. litellm took 82 s for 500,000 choices, and no heartbeat left the worker meanwhile."""
    raw = json.dumps(body)
    began = time.process_time()
    facts = await outcome({"body": raw})
    assert time.process_time() - began < 20
    assert (facts.local_fault, facts.http_status, facts.billed) == (LocalFault.UNSUPPORTED, 200, None)
    assert "too large to read" in facts.text
    assert VERSIONS[CURRENT].decide(facts, Progress(budgets=(3, 3)), Policy(), 100.0).action == "next"


async def test_a_stream_with_a_line_without_end_is_refused() -> None:
    """An event of an answer has some kilobytes."""
    body = "data: " + "a" * (9 * 1024 * 1024)
    facts = await outcome(
        {"body": body, "headers": {"content-type": "text/event-stream"}}, extra_params={"stream": True}
    )
    assert facts.local_fault == LocalFault.UNSUPPORTED


async def test_a_compressed_response_is_refused() -> None:
    """None was asked for, and 200 kB may become a gigabyte."""
    packed = gzip.compress(json.dumps({**ANSWER, "padding": "a" * 1_000_000}).encode())
    facts = await outcome({"raw": packed, "headers": {"content-encoding": "gzip"}})
    assert (facts.local_fault, "compressed" in facts.text) == (LocalFault.UNSUPPORTED, True)


@pytest.mark.parametrize("provider", sorted(SELF_HOSTED & {"ollama", "hosted_vllm", "lm_studio", "llamafile", "vllm"}))
def test_a_self_hosted_provider_needs_an_address(provider: str) -> None:
    """Without one litellm asks this machine, or OpenAI."""
    with pytest.raises(LocalFaultError, match="set the spec's api_base") as caught:
        check_spec(ModelSpecOnWire(name=f"{provider}/m"), ())
    assert caught.value.fault == LocalFault.ADDRESS_NOT_ALLOWED


@pytest.mark.parametrize("responses_api", [False, True])
async def test_the_version_of_azures_api_is_a_parameter(responses_api: bool) -> None:
    """It goes into the query of both APIs, and not into the body."""
    async with playing({"http_status": 400, "body": {"error": {"message": "no"}}}) as wire:
        one = order(
            "azure/gpt-4o", wire.url, extra_params={"api_version": "2025-04-01-preview"}, api_key="os.environ/K",
            responses_api=responses_api,
        )  # fmt: skip
        with pytest.raises(ApplicationError):
            await attempt(one, keys=ring({"K": "k" * 30}, pairs={("K", "127.0.0.1")}))
    head, _, body = wire.requests[0].partition(b"\r\n\r\n")
    assert b"?api-version=2025-04-01-preview " in head
    assert b"api_version" not in body


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"extra_params": {"api_version": "tomorrow"}}, "expected a version"),
        ({"extra_params": {"api_version": 7}}, "expected a version"),
        ({"extra_params": {"extra_body": {"api-version": "preview"}}}, "write extra_params"),
        ({"extra_params": {"extra_headers": {"API-Version": "preview"}}}, "write extra_params"),
        ({"api_base": "https://x.openai.azure.com/?api-version=2024-10-21"}, "write extra_params"),
        ({"extra_params": {"extra_headers": {"X Y": "1"}}}, "not the name of a header"),
        ({"extra_params": {"extra_headers": {"X:Y\r\nHost": "1"}}}, "not the name of a header"),
    ],
)
def test_a_version_in_the_wrong_place_says_where_it_belongs(spec: dict, says: str) -> None:
    """Before anything is sent."""
    with pytest.raises(ValueError, match=says):
        ModelSpec(name="azure/gpt-4o", **spec)


def test_only_azure_has_a_version() -> None:
    """Another provider's request would carry a field that it does not know."""
    with pytest.raises(LocalFaultError, match="belongs to azure"):
        check_spec(ModelSpecOnWire(name="openai/m", extra_params={"api_version": "preview"}), ())
