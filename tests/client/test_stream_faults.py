"""What a provider can do to a stream: the call ends with one model's whole answer, read as a stream or not."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from durable_llm import LLMConfig, ModelSpec, Policy
from durable_llm.streams import open_streams
from tests.client.test_stream import WHOLE, chunk, events_of, says, streams, text_of
from tests.support.wire import playing
from tests.support.workers import working

FIRST, SECOND = "The first model's answer.", "The right answer."
HALF = ("data", chunk(content="The first model's "))
END = ("data", chunk("stop"))
SILENCE = ("sleep", 30)
SHORT = {"first_token_timeout": 0.7, "token_timeout": 0.7}
LONG = {"first_token_timeout": 30, "token_timeout": 30}
"""Where the first model's answer must stand: a slow machine may not take it back."""
ONE_TRY_EACH = Policy(patience=timedelta(0))

LEFT = {
    "cut in the middle": streams(HALF, ("end",)),
    "silent in the middle": streams(HALF, SILENCE),
    "a broken event": streams(HALF, ("data", "data: {broken\n\n"), END, ("end",)),
    "a slow first token": streams(("sleep", 5), *says(FIRST)),
    "keepalives without end": streams(*[("data", ": keepalive\n\n"), ("sleep", 0.05)] * 200),
    "empty events without end": streams(*[("data", chunk(content="")), ("sleep", 0.05)] * 200),
    "an error event after text": streams(HALF, ("data", 'data: {"error": {"message": "overloaded"}}\n\n'), ("end",)),
    "an error body in a 200": {"body": {"error": {"message": "The engine is overloaded.", "code": "server_error"}}},
    "no headers": {"fault": "timeout"},
    "a reset before the response": {"fault": "reset_before_response"},
    "a reset in the middle": streams(HALF, ("reset",)),
    "nothing in a 200": {"body": ""},
    "no text": streams(END, ("data", "data: [DONE]\n\n"), ("end",)),
    "filtered at the end": streams(HALF, ("data", chunk("content_filter")), ("end",)),
    "a server error": {"http_status": 500, "body": {"error": {"message": "oops"}}},
    "too many requests, for an hour": {"http_status": 429, "headers": {"retry-after": "3600"}, "body": {}},
}
KEPT = {
    "no [DONE]": streams(("data", chunk(content=FIRST)), END, ("end",)),
    "an unknown finish reason": streams(("data", chunk(content=FIRST)), ("data", chunk("eos_token")), ("end",)),
    "keepalives between tokens": streams(
        HALF, ("sleep", 0.3), ("data", ": keepalive\n\n"), ("data", chunk(content="answer.")), END, ("end",)
    ),
}
CASES = [(case, SHORT, SECOND) for case in LEFT.values()] + [(case, LONG, FIRST) for case in KEPT.values()]


@pytest.mark.parametrize("is_read", [True, False], ids=["streamed", "not streamed"])
@pytest.mark.parametrize(("case", "clocks", "text"), CASES, ids=[*LEFT, *KEPT])
async def test_a_faulty_stream_ends_with_one_whole_answer(
    server_env: WorkflowEnvironment, tmp_path: Path, case: dict, clocks: dict, text: str, is_read: bool
) -> None:
    """The first model's answer stands if it is whole; else it is taken back, and the second model's stands."""
    async with (
        playing(case) as first,
        playing(WHOLE) as second,
        working(server_env.client, streams=open_streams(tmp_path.as_uri())) as dispatcher,
        asyncio.timeout(60),
    ):
        chain = LLMConfig(
            models=[
                ModelSpec(name="openai/one", api_base=first.url, max_retries=0, **clocks),
                ModelSpec(name="openai/two", api_base=second.url, max_retries=0, first_token_timeout=30),
            ]
        )
        if is_read:
            events = await events_of(dispatcher.stream(chain, "Name a prime.", policy=ONE_TRY_EACH))
            assert text_of(events) == events[-1].result.text == text
        else:
            assert (await dispatcher.call(chain, "Name a prime.", policy=ONE_TRY_EACH)).text == text
