"""What litellm does today, pinned: an upgrade that changes it goes red here, with a name, before it judges a call.

Nothing here is what we want of litellm; it is what the transport guard, the fixed arguments and the order of trust in
the policy were built around. Where a line turns red, read what rests on it, then change the line.
"""

import json
import subprocess
import sys

import pytest

from activities.litellm_setup import FIXED_ARGUMENTS, litellm
from activities.wire import transport
from activities.wire.exchange import Exchange, recording
from tests.support import ROOT
from tests.support.wire import playing

pytestmark = pytest.mark.proof  # it changes with a version of litellm, and with nothing else

OPENAI, ANTHROPIC = "openai/gpt-4o-mini", "anthropic/claude-haiku-4-5"
HELLO = [{"role": "user", "content": "hi"}]

# Status on the wire: class and status of litellm's exception, on OpenAI's wire and on Anthropic's.
EXCEPTIONS = {
    400: (("BadRequestError", 400), ("BadRequestError", 400)),
    401: (("AuthenticationError", 401), ("AuthenticationError", 401)),
    402: (("APIError", 402), ("PaymentRequiredError", 402)),
    403: (("APIError", 403), ("PermissionDeniedError", 403)),
    404: (("NotFoundError", 404), ("NotFoundError", 404)),
    408: (("Timeout", 408), ("Timeout", 408)),
    409: (("APIError", 409), ("BadRequestError", 409)),
    413: (("APIError", 413), ("BadRequestError", 400)),
    422: (("BadRequestError", 422), ("BadRequestError", 422)),
    429: (("RateLimitError", 429), ("RateLimitError", 429)),
    500: (("InternalServerError", 500), ("InternalServerError", 500)),
    502: (("BadGatewayError", 502), ("BadGatewayError", 502)),
    503: (("ServiceUnavailableError", 503), ("ServiceUnavailableError", 503)),
    504: (("Timeout", 504), ("Timeout", 504)),
    524: (("APIError", 524), ("APIError", 524)),
    529: (("APIError", 529), ("InternalServerError", 500)),
}


async def raised(model: str, status: int, message: str = "m") -> Exception:
    """What litellm raises after a response with `status`."""
    transport.install_transport()
    case = {"http_status": status, "headers": {"retry-after": "7"}, "body": {"error": {"message": message}}}
    async with playing(case) as wire:
        with recording(Exchange()), pytest.raises(Exception) as caught:  # noqa: PT011
            await litellm.acompletion(model=model, messages=HELLO, api_base=wire.url, api_key="x", **FIXED_ARGUMENTS)
    return caught.value


@pytest.mark.parametrize("status", EXCEPTIONS)
@pytest.mark.parametrize("wire", [0, 1], ids=["openai", "anthropic"])
async def test_the_class_that_a_status_becomes(status: int, wire: int) -> None:
    """The lmi preset decides by these classes; the default judges by the wire, since statuses get lost here."""
    error = await raised((OPENAI, ANTHROPIC)[wire], status)
    assert (type(error).__name__, error.status_code) == EXCEPTIONS[status][wire]


async def test_a_class_follows_words_in_the_message() -> None:
    """So it is trusted last: a 400 that speaks of a rate limit becomes one."""
    assert type(await raised(OPENAI, 400, "rate limit")).__name__ == "RateLimitError"


@pytest.mark.parametrize("model", [OPENAI, ANTHROPIC])
@pytest.mark.parametrize("status", [429, 503])
async def test_where_the_providers_wait_is_found(model: str, status: int) -> None:
    """Beside the exception, not on its response: who looks there waits for nothing."""
    error = await raised(model, status)
    assert error.litellm_response_headers["retry-after"] == "7"
    assert "retry-after" not in error.response.headers


# Requests per call, outside of our transport: with our arguments, and with litellm's defaults.
REQUESTS = {
    (OPENAI, "500"): (1, 3),
    ("azure/gpt-4o", "500"): (1, 3),
    (ANTHROPIC, "500"): (1, 1),
    ("gemini/gemini-2.5-flash", "500"): (1, 1),
    ("mistral/m", "500"): (1, 1),
    # No argument keeps litellm's own client from sending again after a reset: that is what the guard is for.
    (OPENAI, "reset"): (1, 3),
    (ANTHROPIC, "reset"): (2, 2),
    ("gemini/gemini-2.5-flash", "reset"): (2, 2),
    ("mistral/m", "reset"): (2, 2),
}

COUNT = """
import asyncio, json, sys
from activities.litellm_setup import FIXED_ARGUMENTS, litellm
from tests.support.wire import playing

CASES = {"500": {"http_status": 500, "body": {"error": {"message": "m"}}}, "reset": {"fault": "reset_before_response"}}
DEFAULTS = {name: FIXED_ARGUMENTS[name] for name in FIXED_ARGUMENTS if name not in ("max_retries", "num_retries")}

async def count(model, case, arguments):
    async with playing(CASES[case]) as wire:
        try:
            await litellm.acompletion(
                model=model, messages=[{"role": "user", "content": "x"}], api_base=wire.url, api_key="x", **arguments
            )
        except Exception:
            return len(wire.requests)

async def main():
    asked = json.loads(sys.argv[1])
    print(json.dumps([[await count(*pair, FIXED_ARGUMENTS), await count(*pair, DEFAULTS)] for pair in asked]))

asyncio.run(main())
"""


def test_how_many_requests_a_call_makes() -> None:
    """In a process without our guard: one with our arguments where litellm lets us, three without them."""
    done = subprocess.run(
        [sys.executable, "-c", COUNT, json.dumps(list(REQUESTS))],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    counted = json.loads(done.stdout.splitlines()[-1])
    assert dict(zip(REQUESTS, map(tuple, counted), strict=True)) == REQUESTS


async def test_a_cut_stream_gets_an_end_that_nobody_sent() -> None:
    """So a stream is classified by its events."""
    transport.install_transport()
    chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    chunk["choices"] = [{"index": 0, "delta": {"role": "assistant", "content": "Hel"}, "finish_reason": None}]
    case = {"headers": {"content-type": "text/event-stream"}, "body": f"data: {json.dumps(chunk)}\n\n"}
    async with playing(case) as wire:
        with recording(Exchange()):
            stream = await litellm.acompletion(
                model=OPENAI, messages=HELLO, api_base=wire.url, api_key="x", stream=True, **FIXED_ARGUMENTS
            )
            chunks = [piece async for piece in stream]
    assert litellm.stream_chunk_builder(chunks).choices[0].finish_reason == "stop"
