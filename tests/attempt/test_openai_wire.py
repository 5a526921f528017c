"""A request on OpenAI's wire that is sent without litellm's wrappers is the one that litellm sends, and is read alike."""

import itertools
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from temporalio.exceptions import ApplicationError

from durable_llm.contract.facts import FailureFacts
from durable_llm.contract.result import Answer
from tests.attempt.test_corpus_facts import CASES
from tests.attempt.test_mend import FIELDS, JSON
from tests.support import ROOT
from tests.support.attempts import TOOLS, attempt, order, ring, says
from tests.support.wire import playing

THROUGH_LITELLM = {"audio": None}
"""A parameter without effect, with which litellm sends the request."""

SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object", "properties": {}}}}
MODELS = ["gpt-4o-mini", "openai/gpt-4.1", "openai/o3-mini", "openai/gpt-5", "openai/gpt-5.4", "openai/own/model",
          "openai/gpt-5-codex", "openai/gpt-4o-search-preview"]  # fmt: skip
PARAMETERS: list[dict[str, Any]] = [
    {}, {"temperature": 0.2, "top_p": 0.9}, {"max_tokens": 5}, {"max_completion_tokens": 5}, {"n": 2, "seed": 7},
    {"stop": ["a", "b"]}, {"logit_bias": {"5": 1}}, {"logprobs": True, "top_logprobs": 3}, {"user": "u", "store": True},
    {"presence_penalty": 0.5, "frequency_penalty": 0.5}, {"reasoning_effort": "low"}, {"verbosity": "low"},
    {"service_tier": "flex"}, {"prompt_cache_key": "k", "safety_identifier": "s"}, {"parallel_tool_calls": False},
    {"extra_body": {"top_k": 4, "temperature": 0.9}}, {"extra_headers": {"X-Team": "blue"}},
    {"extra_body": {"reasoning": {"effort": "low"}}},
]  # fmt: skip
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
PROMPTS: list[dict[str, Any]] = [
    {},
    {"tools": TOOLS}, {"tools": TOOLS, "tool_choice": "required"},
    {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}, "input_examples": [1]}]},
    {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "get_weather"}}},
    {"response_format": {"type": "json_object"}}, {"response_format": SCHEMA},
    {"messages": [{"role": "developer", "content": "Be short."}, {"role": "user", "content": [IMAGE]}]},
    {"messages": [{"role": "system", "content": "Ä"}, {"role": "user", "name": "a", "content": "é"},
                  {"role": "assistant", "content": None, "tool_calls": [CALL]},
                  {"role": "tool", "tool_call_id": "call_1", "content": "sun"}]},
]  # fmt: skip
ANSWERED = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini-2024-07-18",
    "system_fingerprint": "fp", "service_tier": "default",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "{}", "refusal": None, "annotations": []},
                 "logprobs": None, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 2000, "completion_tokens": 30, "total_tokens": 2030,
              "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
              "completion_tokens_details": {"reasoning_tokens": 20, "accepted_prediction_tokens": 0}},
}  # fmt: skip
_NOT_COMPARED = ("x-stainless-", "user-agent", "content-length", "connection", "host", "accept-encoding")


async def one(case: dict, model: str, parameters: dict, prompt: dict | None = None) -> tuple[Any, Any]:
    """The request and the outcome of one attempt."""
    async with playing(case) as wire:
        asked = order(model, f"{wire.url}/v1", extra_params=parameters, api_key="os.environ/OWN")
        given = says() if not prompt else says(**prompt) if "messages" not in prompt else said(prompt)
        try:
            outcome = await attempt(asked, given, keys=ring({"OWN": "k" * 30}, pairs={("OWN", "127.0.0.1")}))
        except ApplicationError as error:
            outcome = error.details[0]
        request = parsed(wire.requests[0]) if wire.requests else None
        return request, plain(outcome, wire.port)


def said(prompt: dict) -> Any:
    """A prompt of these messages."""
    return says().model_copy(update=prompt)


def parsed(request: bytes) -> Any:
    """Its line, headers and JSON."""
    head, _, body = request.partition(b"\r\n\r\n")
    line, *headers = head.decode().split("\r\n")
    kept = {name.lower(): value for name, _, value in (header.partition(": ") for header in headers)
            if not name.lower().startswith(_NOT_COMPARED)}  # fmt: skip
    return line, kept, json.loads(body)


def plain(outcome: Answer | FailureFacts, port: int) -> dict:
    """The outcome without what differs from one attempt to the next."""
    text = outcome.model_copy(update={"duration_s": 0.0}).model_dump_json().replace(f":{port}/", ":PORT/")
    return json.loads(re.sub(r"chatcmpl-[0-9a-f-]{36}", "invented by litellm", text))


def pairs_for(model: str) -> list[tuple[dict, dict]]:
    """Each parameter and each prompt alone, and this model's share of their pairs: every pair has one of the models."""
    pairs = itertools.product(enumerate(PARAMETERS), enumerate(PROMPTS))
    own = MODELS.index(model)
    return [
        (parameters, prompt) for (i, parameters), (j, prompt) in pairs if 0 in (i, j) or (i + j) % len(MODELS) == own
    ]


@pytest.mark.parametrize("model", MODELS)
async def test_both_ways_send_the_same_and_read_the_same(model: str) -> None:
    """Every parameter with every kind of prompt: line, headers and body, the answer, its tokens and its cost."""
    for parameters, prompt in pairs_for(model):
        ours = await one({"body": ANSWERED}, model, parameters, prompt)
        theirs = await one({"body": ANSWERED}, model, {**parameters, **THROUGH_LITELLM}, prompt)
        assert ours == theirs, (parameters, prompt)


REPORTS = json.loads((ROOT / "tests/support/data/failure_reports.json").read_text())
FAILURES = [
    case for case in (*CASES, *REPORTS) if case.get("fault") not in ("timeout", "slow_drip") and not case.get("stream")
]


@pytest.mark.parametrize("case", FAILURES, ids=lambda case: case["id"])
async def test_both_ways_tell_the_same_of_a_failure(case: dict) -> None:
    """Every recorded response, of any provider, as if a gateway of OpenAI's wire had sent it; litellm's exception too."""
    assert await one(case, "openai/gpt-4o-mini", {}) == await one(case, "openai/gpt-4o-mini", THROUGH_LITELLM)


@settings(max_examples=150, deadline=None)
@given(changes=st.dictionaries(FIELDS, JSON, max_size=2))
async def test_both_ways_make_the_same_of_an_odd_body(changes: dict) -> None:
    """Arbitrary JSON in place of any field."""
    case = {"body": {**ANSWERED, **changes}}
    ours, theirs = await one(case, "openai/gpt-4o-mini", {}), await one(case, "openai/gpt-4o-mini", THROUGH_LITELLM)
    assert ours == theirs
