"""Background mode at the attempt: one request that is billed, and questions that may fail without it failing."""

import asyncio

import httpx
import pytest
from pydantic import ValidationError
from temporalio.activity import ActivityCancellationDetails
from temporalio.exceptions import ApplicationError

from activities.send import CANCEL_TIMEOUT_S
from activities.wire.exchange import Exchange, RefusedError
from durable_llm import ModelSpec
from durable_llm.contract.categories import Category
from durable_llm.contract.facts import AnswerDefect, FailureFacts, LocalFault, Sent
from durable_llm.contract.heartbeat import AttemptHeartbeat, response_of
from tests.support.attempts import attempt, environment, order, ring
from tests.support.responses import DROPPED, TEXT, UNDER_WAY, keeping, response
from workflows.policy.versions import CURRENT, VERSIONS

MODEL = "openai/gpt-4o-mini"
DONE = response(TEXT)
SPEC = {"responses_api": True, "background": True}


def asking(server, model: str = MODEL, resume: str | None = None, **spec):
    """An order for a background response."""
    return order(model, server.url, **{**SPEC, **spec}).model_copy(update={"resume": resume})


async def outcome(asked, **options):
    """The answer, or the facts of the failure."""
    try:
        return await attempt(asked, **options)
    except ApplicationError as error:
        return error.details[0]


async def until(condition) -> None:
    """Wait for the server to have seen something."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def classified(facts):
    """The row of the table that fits, and its category."""
    verdict = VERSIONS[CURRENT].classify(facts)
    return verdict.rule, verdict.category


@pytest.mark.parametrize("model", [MODEL, "azure/gpt-4o-mini"])
async def test_a_response_is_begun_once_and_followed_to_its_end(model):
    """One POST, kept by the provider; then questions until it has ended; the answer is that of any API."""
    async with keeping(UNDER_WAY, DONE) as server:
        answer = await attempt(asking(server, model))

    [sent] = server.created
    assert (sent["background"], sent["store"]) == (True, True)
    assert server.asked == ["resp_1", "resp_1"]
    assert server.cancelled == []
    assert (answer.choices[0].text, answer.response_id, answer.usage.prompt_tokens) == ("seven", "resp_1", 12)
    assert answer.cost > 0


async def test_the_id_is_told_by_heartbeat_before_anything_is_asked():
    """A worker killed a moment after the request leaves the id behind, and each later heartbeat carries it."""
    env, told = environment(), []
    async with keeping(UNDER_WAY) as server:
        env.on_heartbeat = lambda *details: told.append((len(server.asked), response_of(details)))
        running = asyncio.create_task(attempt(asking(server), env=env))
        await until(lambda: len(told) >= 2)  # at once, and after a third of the timeout
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert told[0] == (0, "resp_1")
    assert {response_id for _, response_id in told} == {"resp_1"}


KEY = "q9ZkT7wXbGm2hRv4nPq8sYc5dJ3ab"
STRANGE = [
    KEY,
    f"resp_{KEY}",
    f"resp_{KEY[:20]}",
    "resp_" + "1" * 400,
    "resp 1",
    "../files/1",
    "resp_1?x=1",
    "resp_1\n",
    "",
]


@pytest.mark.parametrize("response_id", STRANGE)
async def test_an_id_that_is_none_or_holds_a_key_is_not_followed(response_id):
    """It would stand in heartbeats, facts, orders and summaries, and in an address: what came is classified instead."""
    env, told = environment(), []
    env.on_heartbeat = lambda *details: told.append(response_of(details))
    keys = ring({"TEAM_API_KEY": KEY}, pairs={("TEAM_API_KEY", "127.0.0.1")})
    async with keeping(DONE, first_id=response_id) as server:
        facts = await outcome(asking(server, api_key="os.environ/TEAM_API_KEY"), env=env, keys=keys)

    assert (len(server.created), server.asked, set(told) - {None}) == (1, [], set())
    assert (facts.response_id, classified(facts)[1]) == (None, Category.UNUSABLE_ANSWER)
    assert KEY[:8] not in facts.model_dump_json()


@pytest.mark.parametrize(
    "response_id", ["resp_" + "0a" * 24, "resp_bGl0ZWxsbTpjdXN0b21f" + "bGx" * 80 + "==", "r:1.2-3"]
)
async def test_ids_of_other_shapes_are_followed(response_id):
    """A gateway's ids are longer than OpenAI's, and encoded."""
    async with keeping(DONE, first_id=response_id) as server:
        answer = await outcome(asking(server))

    assert (set(server.asked), answer.choices[0].text) == ({response_id}, "seven")


@pytest.mark.parametrize("details", [[], [None], ["text"], [{"response_id": 7}]])
def test_heartbeats_of_another_version_name_no_response(details):
    """What cannot be read cannot be resumed, and stops no call."""
    assert response_of(details) is None


@pytest.mark.parametrize("look", [500, 503, 408, DROPPED, (429, {"retry-after": "0"}), 404])
async def test_a_question_that_fails_is_asked_again(look):
    """The response goes on whatever becomes of the questions; a single 404 may be a replica that is late."""
    looks = [look, look] if look == DROPPED else [look]  # aiohttp itself repeats a GET once
    async with keeping(*looks, DONE) as server:
        answer = await attempt(asking(server))

    assert answer.choices[0].text == "seven"
    assert (len(server.created), len(server.asked)) == (1, len(looks) + 1)


async def test_an_answer_that_litellm_cannot_read_is_not_lost():
    """A server that leaves out most fields has begun a response all the same, and what it says is read."""
    async with keeping(DONE, terse=True) as server:
        answer = await attempt(asking(server))

    assert (answer.choices[0].text, answer.response_id, answer.usage) == ("seven", "resp_1", None)
    assert len(server.created) == 1


async def test_a_provider_that_asks_to_wait_is_not_asked_before():
    """Retry-After counts for questions too."""
    async with keeping((429, {"retry-after": "2"}), DONE) as server:
        await attempt(asking(server))

    first, second = server.asked_at
    assert second - first >= 2.0


ENDS = [
    ({"status": "failed", "error": {"code": "rate_limit_exceeded", "message": "slow"}}, "rate_limited"),
    ({"status": "failed", "error": {"code": "server_error", "message": "sorry"}}, "server_error"),
    ({"status": "failed", "error": {"code": "invalid_prompt", "message": "no"}}, "invalid_request"),
    ({"status": "failed"}, "unusable_answer"),
    ({"status": "cancelled"}, "unusable_answer"),
    ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
    ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "refused"),
]


@pytest.mark.parametrize(("end", "category"), ENDS)
async def test_a_response_that_ends_badly_is_classified_as_on_chat(end, category):
    """The facts name the response, and what it cost is not taken for nothing."""
    async with keeping(response(usage=None, **end)) as server:
        facts = await outcome(asking(server))

    assert classified(facts)[1] == category
    assert (facts.response_id, facts.billed, facts.resumable) == ("resp_1", None, None)
    assert len(server.created) == 1


async def test_length_with_text_is_an_answer():
    """What was said before the budget ran out."""
    async with keeping(
        response(TEXT, status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    ) as server:
        answer = await attempt(asking(server))

    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("seven", "length")


async def test_a_request_that_begins_nothing_is_a_failure_as_on_chat():
    """There is nothing to follow: the status is classified, and nothing is billed."""
    async with keeping(DONE, refuses=429) as server:
        facts = await outcome(asking(server))

    assert (classified(facts)[1], facts.response_id, facts.billed) == ("rate_limited", None, 0.0)
    assert server.asked == []


async def test_another_attempt_goes_on_with_the_same_response():
    """Nothing is asked anew: one question, and the answer."""
    told = []
    env = environment()
    env.on_heartbeat = lambda *details: told.append(details[0])
    async with keeping(DONE) as server:
        answer = await attempt(asking(server, resume="resp_9"), env=env)

    assert (server.created, server.asked) == ([], ["resp_9"])
    assert (answer.choices[0].text, answer.response_id) == ("seven", "resp_9")
    assert told[0] == AttemptHeartbeat(response_id="resp_9")


async def test_a_response_that_is_gone_is_begun_anew_by_the_next_attempt():
    """The attempt fails as such, of itself it begins nothing, and the policy asks the same model again."""
    async with keeping(404) as server:
        facts = await outcome(asking(server, resume="resp_9"))

    assert (server.created, server.asked) == ([], ["resp_9", "resp_9"])
    assert classified(facts) == ("response-gone", "unusable_answer")
    assert (facts.http_status, facts.response_id, facts.resumable, facts.billed) == (404, "resp_9", None, None)


async def test_a_key_that_no_longer_opens_ends_the_attempt():
    """A refusal that no later question would get around."""
    async with keeping(401) as server:
        facts = await outcome(asking(server))

    assert classified(facts)[1] == "auth"
    assert (len(server.asked), facts.billed) == (1, None)


async def test_the_spec_s_key_and_headers_go_with_every_question():
    """A question needs the same access as the request."""
    keys = ring({"TEAM_API_KEY": "plain-9f8e7d6c5b4a-key"}, pairs={("TEAM_API_KEY", "127.0.0.1")})
    spec = {"api_key": "os.environ/TEAM_API_KEY", "extra_params": {"extra_headers": {"x-team": "blue"}}}
    async with keeping(DONE) as server:
        await attempt(asking(server, **spec), keys=keys)

    sent = [(headers["Authorization"], headers["x-team"]) for headers in server.headers]
    assert sent == [("Bearer plain-9f8e7d6c5b4a-key", "blue")] * 2


async def test_a_cancelled_call_cancels_its_response():
    """Nobody waits for it any more, so the provider is told to stop."""
    env = environment()
    async with keeping(UNDER_WAY) as server:
        running = asyncio.create_task(attempt(asking(server), env=env))
        await until(lambda: server.asked)
        env.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    assert server.cancelled == ["resp_1"]


async def test_an_attempt_s_own_timeout_cancels_its_response():
    """What it cost is unknown, the response is named, and the next attempt asks anew."""
    async with keeping(UNDER_WAY) as server:
        facts = await outcome(asking(server, timeout_s=1.0))

    assert server.cancelled == ["resp_1"]
    assert (facts.local_fault, facts.request_sent, facts.billed) == (LocalFault.TIMEOUT, Sent.YES, None)
    assert (facts.response_id, facts.resumable) == ("resp_1", None)


async def test_a_provider_that_does_not_answer_to_the_cancellation_holds_nobody_up():
    """Telling the provider to stop is bounded."""
    async with keeping(UNDER_WAY, deaf=True) as server:
        facts = await outcome(asking(server, timeout_s=1.0))

    assert server.cancelled == ["resp_1"]
    assert facts.duration_s < 1.0 + CANCEL_TIMEOUT_S + 2.0


async def test_a_worker_that_stops_leaves_the_response_to_the_next():
    """Drained: the facts name the response, and the provider goes on with it."""
    env = environment()
    async with keeping(UNDER_WAY) as server:
        running = asyncio.create_task(outcome(asking(server), env=env))
        await until(lambda: server.asked)
        env.cancel(ActivityCancellationDetails(worker_shutdown=True))
        facts = await running

    assert (facts.local_fault, facts.resumable, facts.outcome) == (LocalFault.DRAINED, "resp_1", "unknown")
    assert server.cancelled == []


def following(**rules) -> Exchange:
    """An exchange whose one request began a response."""
    exchange = Exchange(**rules)
    exchange.admit(httpx.Request("POST", "https://api.example/v1/responses"))
    exchange.follow("resp_1")
    return exchange


ABOUT_IT = [("GET", "/v1/responses/resp_1"), ("POST", "/v1/responses/resp_1/cancel")]
NOT_ABOUT_IT = [
    ("POST", "https://api.example/v1/responses"),
    ("POST", "https://api.example/v1/responses/resp_1"),
    ("GET", "https://api.example/v1/responses/resp_2"),
    ("DELETE", "https://api.example/v1/responses/resp_1"),
    ("GET", "https://elsewhere.example/v1/responses/resp_1"),
]


@pytest.mark.parametrize(("method", "path"), ABOUT_IT)
def test_questions_about_the_response_pass_the_guard(method, path):
    """As many as it takes; each has the record to itself, and the request stays sent."""
    exchange = following()
    exchange.broke(OSError("reset"), connected=False)
    for _ in range(3):
        exchange.admit(httpx.Request(method, f"https://api.example{path}"))

    assert (exchange.requests, exchange.polls, exchange.error, exchange.sent) == (1, 3, None, Sent.YES)


@pytest.mark.parametrize(("method", "url"), NOT_ABOUT_IT)
def test_nothing_else_passes_the_guard(method, url):
    """A second response is refused, as is another one's, and the same question at another host."""
    with pytest.raises(RefusedError):
        following().admit(httpx.Request(method, url))


def test_an_attempt_that_resumes_begins_nothing():
    """Whatever the code above it does, a response that was paid for is not asked for again."""
    exchange = Exchange()
    exchange.follow("resp_1")
    with pytest.raises(RefusedError, match="one attempt is one request"):
        exchange.admit(httpx.Request("POST", "https://api.example/v1/responses"))


def test_a_question_carries_no_foreign_key():
    """The rules for keys hold for questions as for the request."""
    exchange = following(forbidden={"plain-other-secret-value"})
    headers = {"authorization": "Bearer plain-other-secret-value"}
    with pytest.raises(RefusedError, match="credential"):
        exchange.admit(httpx.Request("GET", "https://api.example/v1/responses/resp_1", headers=headers))


WITHOUT = [
    ({"responses_api": False}, "responses_api=True"),
    ({"extra_params": {"store": False}}, "not stored"),
    ({"extra_params": {"stream": True}}, "no stream"),
]


@pytest.mark.parametrize(("change", "says"), WITHOUT)
async def test_what_could_not_be_followed_is_refused(change, says):
    """Where it is written, and on the worker, whose caller may be another program."""
    with pytest.raises(ValidationError, match=says):
        ModelSpec(name=MODEL, **{**SPEC, **change})
    facts = await outcome(order(MODEL, "http://127.0.0.1:9", **{**SPEC, **change}))
    assert (facts.local_fault, facts.request_sent) == (LocalFault.UNSUPPORTED, Sent.NO)
    assert says in facts.text


async def test_only_providers_with_that_api_have_it():
    """The name says which one it is; the worker knows them."""
    facts = await outcome(order("mistral/m", "http://127.0.0.1:9", **SPEC))
    assert facts.local_fault == LocalFault.UNSUPPORTED


def test_a_404_is_a_missing_response_only_where_one_was_followed():
    """Everywhere else it is a missing model."""
    assert classified(FailureFacts(http_status=404))[0] == "404"
    assert (
        classified(FailureFacts(http_status=200, answer_defect=AnswerDefect.EMPTY, response_id="resp_1"))[0]
        == "no-answer"
    )
