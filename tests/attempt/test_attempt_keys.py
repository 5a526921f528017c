"""No key leaves an attempt, whatever a provider sends and whatever fails in reading it."""

import json

import pytest
from temporalio.exceptions import ApplicationError

from activities.secrets.key_ring import KeyRing
from durable_llm.contract.categories import Category
from durable_llm.contract.request import AttemptOrder
from tests.support.attempts import attempt, order
from tests.support.wire import Wire, playing
from workflows.policy.versions import CURRENT, VERSIONS

KEY = "q9ZkT7wXbTeamKey3b1cVvPq"
BODIES = {
    "no end of lists": f'["{KEY}"' + ", [" * 5_000,
    "no end of objects": '{"error": ' * 5_000 + f'"{KEY}"',
    "a number too long": f'{{"id": "{KEY}", "n": {"9" * 5000}}}',
    "an error that is a number": f'{{"error": 5, "id": "{KEY}"}}',
    "errors in a list": f'{{"error": [5, {{"message": "{KEY}"}}]}}',
    "choices of numbers": f'{{"choices": [5], "id": "{KEY}"}}',
    "a text for usage": f'{{"choices": [{{"message": {{"content": ""}}}}], "usage": "{KEY}"}}',
    "no JSON": f"\0 {KEY}",
}
STREAMS = {
    "events of numbers": "data: 5\n\n",
    "events of lists": f'data: ["{KEY}"]\n\n',
    "an end without a start": f'event: message_stop\ndata: {{"type": "message_stop", "id": "{KEY}"}}\n\n',
    "choices that are a text": f'data: {{"choices": "{KEY}"}}\n\n',
}


def ring() -> KeyRing:
    """A worker's keys with one for loopback."""
    return KeyRing({"TEAM_API_KEY": KEY}, pairs={("TEAM_API_KEY", "127.0.0.1")}, hosts={"127.0.0.1"})


def asking(wire: Wire, **fields: object) -> AttemptOrder:
    """An order to ask with that key."""
    return order("openai/gpt-4o-mini", f"{wire.url}/v1", api_key="os.environ/TEAM_API_KEY", **fields)


@pytest.mark.parametrize("status", [200, 401])
@pytest.mark.parametrize(
    ("kind", "body"),
    [("application/json", body) for body in BODIES.values()]
    + [("text/event-stream", body) for body in STREAMS.values()],
    ids=[*BODIES, *STREAMS],
)
async def test_a_body_that_nobody_thought_of_is_a_failure_like_any_other(status: int, kind: str, body: str) -> None:
    """Facts, told without the key; litellm's exception stays behind, since Temporal stores what led to an exception."""
    case = {"http_status": status, "headers": {"content-type": kind, "x-request-id": KEY}, "raw": body.encode()}
    async with playing(case) as wire:
        streamed = {"extra_params": {"stream": True}} if kind != "application/json" else {}
        with pytest.raises(ApplicationError) as failed:
            await attempt(asking(wire, **streamed), keys=ring())
        assert KEY.encode() in wire.requests[0]
    [facts] = failed.value.details
    assert (failed.value.__cause__, failed.value.__suppress_context__) == (None, True)
    assert facts.http_status == status
    assert KEY[:6] not in failed.value.message + facts.model_dump_json()


async def test_a_fault_in_reading_a_failure_takes_nothing_along() -> None:
    """What is known without reading is told, so that the status still decides."""

    class Breaking(KeyRing):
        """Its files vanish once the request is under way."""

        resolved = False

        def secrets(self) -> frozenset[str]:
            if self.resolved:
                raise OSError(f"{KEY} cannot be read")
            return super().secrets()

        def resolve(self, *asked: object) -> object:
            passage = super().resolve(*asked)
            self.resolved = True
            return passage

    keys = Breaking({"TEAM_API_KEY": KEY}, pairs={("TEAM_API_KEY", "127.0.0.1")}, hosts={"127.0.0.1"})
    async with playing({"http_status": 401, "body": {"error": {"message": KEY}}}) as wire:
        with pytest.raises(ApplicationError) as failed:
            await attempt(asking(wire), keys=keys)
    [facts] = failed.value.details
    assert (failed.value.__cause__, failed.value.__suppress_context__) == (None, True)
    assert facts.text == "the failure cannot be read: OSError"
    assert VERSIONS[CURRENT].classify(facts).category == Category.AUTH


async def test_an_answer_loses_the_workers_keys_and_nothing_else() -> None:
    """An answer is stored as it came but for a key that this worker holds; a short one may be a word of the answer."""
    text = f"postgres, sk-proj-abcdefghijklmnop1234 and {KEY}"
    message = {"role": "assistant", "content": text, "reasoning_content": KEY}
    body = {
        "id": KEY, "object": "chat.completion", "created": 1, "model": f"m-{KEY}",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
    }  # fmt: skip
    keys = KeyRing(
        {"TEAM_API_KEY": KEY, "DB_PASSWORD": "postgres"}, pairs={("TEAM_API_KEY", "127.0.0.1")}, hosts={"127.0.0.1"}
    )
    async with playing({"http_status": 200, "headers": {"x-request-id": KEY}, "body": body}) as wire:
        answer = await attempt(asking(wire), keys=keys)
    assert answer.choices[0].text == "postgres, sk-proj-abcdefghijklmnop1234 and [key]"
    assert (answer.choices[0].reasoning_content, answer.response_id, answer.request_id, answer.model) == (
        "[key]",
        "[key]",
        "[key]",
        "m-[key]",
    )
    assert KEY not in json.dumps(answer.model_dump(mode="json"))
