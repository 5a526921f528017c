"""The attempt activity against real servers: one request, an answer or facts, and no key in either."""

import asyncio
import gzip
import json
from datetime import timedelta

import pytest
from llmock.testing import LLMockServer
from temporalio.activity import ActivityCancellationDetails
from temporalio.exceptions import ApplicationError

from activities.answer.cost import set_prices
from activities.attempt import ProviderAttempts
from activities.temporal.heartbeats import Heartbeats
from durable_llm.contract.facts import AnswerDefect, LocalFault, Sent
from durable_llm.contract.request import Prompt
from durable_llm.contract.result import Answer
from tests.support.attempts import TOOLS, ReachableServer, attempt, environment, order, ring, says
from tests.support.wire import playing

OPENAI = "openai/gpt-4o-mini"
FAMILIES = [(OPENAI, "openai"), ("anthropic/claude-haiku-4-5", "anthropic"), ("gemini/gemini-2.5-flash", "gemini")]
PATHS = {"gemini": "/v1beta"}


@pytest.fixture(scope="module")
def provider():
    """A provider of many dialects."""
    with LLMockServer() as server:
        yield server


def completion(**message) -> dict:
    """A completion of OpenAI's with `message`."""
    finish = message.pop("finish_reason", "stop")
    choice = {"index": 0, "message": {"role": "assistant", "content": None, **message}, "finish_reason": finish}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [choice],
        "usage": {
            "prompt_tokens": 12,
            "completion_tokens": 3,
            "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 4},
        },
    }


async def failure(*arguments, **options):
    """The error that an attempt ends with."""
    with pytest.raises(ApplicationError) as raised:
        await attempt(*arguments, **options)
    return raised.value


async def served(body, model: str = OPENAI, prompt: Prompt | None = None, *, spec=None, **case):
    """What the activity makes of one response, and the requests that the server saw."""
    async with playing({"http_status": 200, "body": body, **case}) as wire:
        try:
            outcome = await attempt(order(model, wire.url, **(spec or {})), prompt)
        except ApplicationError as error:
            outcome = error.details[0]
    return outcome, wire.requests


@pytest.mark.parametrize(("model", "base"), FAMILIES)
async def test_an_answer_is_plain_data(provider, model, base):
    """Text, usage, price and time of the answer, from one request."""
    provider.state.scenarios.clear()
    answer = await attempt(order(model, provider.base_url(base) + PATHS.get(base, "")))

    assert answer.choices[0].text
    assert answer.usage.prompt_tokens > 0
    assert answer.cost > 0
    assert (answer.http_status, answer.duration_s > 0) == (200, True)


async def test_everything_of_an_answer_is_kept():
    """Cached tokens, tool calls, log probabilities, several choices and the request's id."""
    call = {"name": "get_weather", "arguments": '{"a": 1}'}
    body = completion(tool_calls=[{"id": "c1", "type": "function", "function": call}])
    body["choices"].append(
        {
            "index": 1,
            "message": {"role": "assistant", "content": "second"},
            "finish_reason": "length",
            "logprobs": {"content": [{"token": "s", "logprob": -0.1, "bytes": None, "top_logprobs": []}]},
        }
    )
    answer, requests = await served(body, prompt=says(tools=TOOLS), headers={"x-request-id": "req_1"})

    assert answer.choices[0].tool_calls[0].function.parsed_arguments() == {"a": 1}
    assert (answer.choices[1].text, answer.choices[1].finish_reason) == ("second", "length")
    assert answer.choices[1].logprobs["content"][0]["token"] == "s"
    assert (answer.request_id, answer.response_id, answer.model) == ("req_1", "x", "gpt-4o-mini-2024-07-18")
    assert answer.usage.cache_read_tokens == 4
    assert len(requests) == 1


async def test_an_unknown_price_is_none():
    """What a model without a price cost is unknown, not nothing."""
    answer, _ = await served({**completion(content="hi"), "model": "m"}, "hosted_vllm/some/model")

    assert (answer.choices[0].text, answer.cost) == ("hi", None)


@pytest.mark.parametrize(
    ("price", "cost"),
    [
        ({"input": 2, "output": 10}, (12 * 2 + 3 * 10) / 1e6),
        ({"input": 2, "output": 10, "cache_read": 0.5}, (8 * 2 + 4 * 0.5 + 3 * 10) / 1e6),
        ({"input": 0}, 0.0),
    ],
)
async def test_an_operators_own_price_counts(price: dict, cost: float):
    """In place of the built-in one, and for models that have none; without a usage the cost stays unknown."""
    set_prices({OPENAI: price, "hosted_vllm/mine": price})
    try:
        listed, _ = await served(completion(content="hi"))
        unlisted, _ = await served({**completion(content="hi"), "model": "mine"}, "hosted_vllm/mine")
        unknown, _ = await served({**completion(content="hi"), "usage": None})
    finally:
        set_prices({})
    assert listed.cost == unlisted.cost == pytest.approx(cost)
    assert unknown.cost is None


DEFECTS = [
    (completion(content=""), AnswerDefect.EMPTY),
    (completion(content="  "), AnswerDefect.EMPTY),
    (completion(content=None, finish_reason="length"), AnswerDefect.LENGTH),
    (completion(refusal="No."), AnswerDefect.REFUSAL),
    (completion(content="half", finish_reason="content_filter"), AnswerDefect.CONTENT_FILTER),
    (completion(content="half", finish_reason="insufficient_system_resource"), AnswerDefect.CUT),
    (
        completion(tool_calls=[{"id": "c", "type": "function", "function": {"name": "f", "arguments": "[1]"}}]),
        AnswerDefect.INVALID_TOOL_ARGUMENTS,
    ),
    ({**completion(), "choices": []}, AnswerDefect.EMPTY),
    ({"error": {"message": "Provider returned error", "code": 502}}, AnswerDefect.ERROR_BODY),
]


@pytest.mark.parametrize(("body", "defect"), DEFECTS)
async def test_a_200_that_is_no_answer_is_a_failure(body, defect):
    """An empty, refused, filtered, cut or broken answer is told by its defect, and its cost is kept."""
    facts, requests = await served(body)

    assert (facts.answer_defect, len(requests)) == (defect, 1)
    assert defect is AnswerDefect.ERROR_BODY or facts.cost > 0


async def test_length_with_text_is_an_answer():
    """What was said before the budget ran out is an answer."""
    answer, _ = await served(completion(content="once upon", finish_reason="length"))

    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("once upon", "length")


async def test_an_answer_too_large_for_temporal_is_cut():
    """It is marked as such, and its JSON fits a payload."""
    answer, _ = await served(completion(content='"' * 2_000_000))

    assert answer.truncated
    assert 1_000_000 < len(answer.model_dump_json().encode()) <= 1_600_000


@pytest.mark.parametrize("model", [model for model, _ in FAMILIES])
async def test_a_rate_limit_is_one_request_and_its_wait(model):
    """No SDK retries by itself; status and wait are the provider's."""
    async with playing(
        {"http_status": 429, "headers": {"retry-after": "2"}, "body": {"error": {"message": "slow"}}}
    ) as wire:
        error = await failure(order(model, wire.url))

    assert len(wire.requests) == 1
    facts = error.details[0]
    assert (facts.http_status, facts.retry_after_s, facts.retry_after_source) == (429, 2.0, "retry-after")
    assert (error.non_retryable, error.type) == (True, "ProviderAttemptFailed")
    assert error.message.startswith("429 ")


async def test_parameters_reach_the_wire_as_they_should():
    """Without tools their options are dropped, and OpenRouter gets its effort inside `reasoning`."""
    spec = {"extra_params": {"tool_choice": "auto", "parallel_tool_calls": True, "reasoning_effort": "low", "seed": 7}}
    _, requests = await served(completion(content="hi"), "openrouter/openai/gpt-4o", says(tools=[]), spec=spec)
    sent = json.loads(requests[0].partition(b"\r\n\r\n")[2])

    assert sent["reasoning"] == {"effort": "low"}
    assert sent["seed"] == 7
    assert not {"tools", "tool_choice", "parallel_tool_calls", "reasoning_effort"} & set(sent)


LOCAL = [
    ({"model": "nobody/knows"}, LocalFault.UNKNOWN_PROVIDER),
    ({"model": OPENAI}, LocalFault.MISSING_KEY),
    ({"model": OPENAI, "api_base": "http://elsewhere.example/v1"}, LocalFault.ADDRESS_NOT_ALLOWED),
    ({"model": OPENAI, "api_base": "ftp://127.0.0.1"}, LocalFault.ADDRESS_NOT_ALLOWED),
    ({"model": OPENAI, "extra_params": {"api_base": "http://127.0.0.1"}}, LocalFault.PARAMETER_NOT_ALLOWED),
    ({"model": "mistral/m", "api_base": "http://127.0.0.1:9", "responses_api": True}, LocalFault.UNSUPPORTED),
    (
        {
            "model": "anthropic/claude-haiku-4-5",
            "api_base": "http://127.0.0.1:9",
            "extra_params": {"logit_bias": {"1": 1}},
        },
        LocalFault.UNSUPPORTED,
    ),
    ({"model": "vertex_ai/gemini-2.5-flash"}, LocalFault.MISSING_PACKAGE),
]


@pytest.mark.parametrize(("asked", "fault"), LOCAL)
async def test_our_own_faults_are_told_before_anything_is_sent(asked, fault):
    """A worker that cannot ask says why, and that nothing was sent."""
    error = await failure(order(asked.pop("model"), asked.pop("api_base", None), **asked))

    facts = error.details[0]
    assert (facts.local_fault, facts.request_sent, facts.http_status) == (fault, Sent.NO, None)
    assert facts.text


async def test_the_resolved_key_is_sent_and_never_told():
    """A provider that repeats the key does not get it into the failure: not in its message, details or causes."""
    key = "plain-9f8e7d6c5b4a-key"
    keys = ring({"TEAM_API_KEY": key}, pairs={("TEAM_API_KEY", "127.0.0.1")})
    body = {"error": {"message": f"bad key {key}, seen Bearer {key}", "code": key, "type": f"t-{key}"}}
    async with playing({"http_status": 401, "body": body, "headers": {"x-request-id": key}}) as wire:
        error = await failure(order(OPENAI, wire.url, api_key="os.environ/TEAM_API_KEY"), keys=keys)

    assert f"Bearer {key}".encode() in wire.requests[0]
    assert key not in error.message + repr(error.details) + error.details[0].model_dump_json()
    assert error.__cause__ is None
    assert error.__suppress_context__


async def test_a_foreign_credential_is_not_sent():
    """Even a caller who guesses a secret of the worker cannot have it travel in a header."""
    keys = ring({"OTHER_API_KEY": "plain-other-secret-value"})
    spec = {"extra_params": {"extra_headers": {"x-note": "plain-other-secret-value"}}}
    async with playing({"body": completion(content="hi")}) as wire:
        error = await failure(order(OPENAI, wire.url, **spec), keys=keys)

    assert (error.details[0].local_fault, len(wire.requests)) == (LocalFault.KEY_NOT_ALLOWED, 0)


async def test_the_prompt_is_not_repeated_in_a_failure():
    """A provider's echo of the prompt does not reach history a second time."""
    text = "Confidential: the launch is on the third of May at dawn."
    facts, _ = await served({"error": {"message": f"Invalid content: {text}"}}, prompt=says(text), http_status=400)

    assert facts.text == "Invalid content: [prompt]"


async def test_the_prompt_comes_from_the_server_where_it_is_not_inline():
    """A large prompt is read from the call's own history."""
    async with playing({"body": completion(content="hi")}) as wire:
        attempts = ProviderAttempts(ring(), server=ReachableServer(says("from history")))
        answer = await environment().run(attempts.provider_attempt, order(OPENAI, wire.url), None)

    assert answer.choices[0].text == "hi"
    assert b"from history" in wire.requests[0]


async def test_an_answer_is_held_until_the_server_is_reachable():
    """While the server is away the attempt does not complete, and it goes on heartbeating."""
    back, beats = asyncio.Event(), asyncio.Queue()

    class AwayServer(ReachableServer):
        async def reachable(self, _heard_at: float) -> None:
            await back.wait()

    env = environment()
    env.on_heartbeat = lambda *_: beats.put_nowait(1)
    async with playing({"body": completion(content="hi")}) as wire:
        options = {"server": AwayServer(), "heartbeat_interval": timedelta(milliseconds=10)}
        held = asyncio.create_task(attempt(order(OPENAI, wire.url), env=env, **options))
        await wire.asked.wait()
        for _ in range(20):
            await beats.get()
        assert not held.done()
        back.set()
        assert isinstance(await held, Answer)


async def test_cancelling_closes_the_connection():
    """A cancelled call does not leave a request running."""
    async with playing({"fault": "timeout"}) as wire:
        env = environment()
        running = asyncio.create_task(attempt(order(OPENAI, wire.url), env=env))
        await wire.asked.wait()
        env.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        async with asyncio.timeout(5):
            await wire.closed.wait()


async def test_a_drained_attempt_says_that_its_request_was_sent():
    """A worker that shuts down leaves facts, so that the ledger knows of a request that may be billed."""
    async with playing({"fault": "timeout"}) as wire:
        env = environment()
        running = asyncio.create_task(failure(order(OPENAI, wire.url), env=env))
        await wire.asked.wait()
        env.cancel(ActivityCancellationDetails(worker_shutdown=True))
        error = await running

    assert (error.details[0].local_fault, error.details[0].request_sent) == (LocalFault.DRAINED, Sent.YES)


async def test_a_drip_ends_at_the_attempts_own_deadline():
    """A byte now and then does not hold an attempt open, and the connection is closed."""
    async with playing({"fault": "slow_drip", "body": completion(content="hi")}) as wire:
        error = await failure(order(OPENAI, wire.url, timeout_s=2))
        async with asyncio.timeout(15):
            await wire.closed.wait()

    facts = error.details[0]
    assert (facts.local_fault, facts.request_sent, facts.http_status) == (LocalFault.TIMEOUT, Sent.YES, 200)
    assert facts.duration_s < 6


async def test_a_compressed_body_is_read():
    """A provider that compresses unasked is understood."""
    squeezed = gzip.compress(b'{"error": {"message": "Squeezed"}}')
    async with playing({"http_status": 400, "headers": {"content-encoding": "gzip"}, "raw": squeezed}) as wire:
        error = await failure(order(OPENAI, wire.url))

    assert error.details[0].text == "Squeezed"


@pytest.mark.parametrize(
    ("in_flight", "timeout_s", "expected"), [(1, 60, 5), (600, 60, 10), (6000, 60, 20), (1, 3, 1), (600, None, 10)]
)
def test_heartbeats_stretch_under_load(in_flight, timeout_s, expected):
    """About sixty a second for a process, never above a third of the timeout."""
    beats = Heartbeats(timedelta(seconds=5))
    beats._in_flight = in_flight

    assert beats.interval_s(timeout_s and timedelta(seconds=timeout_s)) == expected
