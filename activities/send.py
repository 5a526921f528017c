"""Send the attempt's one request: to Chat Completions or the Responses API, streamed or not, or in the background.

A background response outlives its worker. Heartbeats carry its id as soon as it is known. So after a lost worker the
next attempt polls the same response, and it is paid for once. Only the first request is billed. A failed poll does not
fail the attempt.
"""

import asyncio
import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from durable_llm.backoff import Backoff
from durable_llm.contract.heartbeat import AttemptHeartbeat

from .answer.read import plain_logprobs
from .answer.responses import completion_of
from .failure import retry_after
from .faults import TokenTimeoutError
from .litellm_openai import ask
from .litellm_setup import FIXED_ARGUMENTS, litellm
from .pace import Pace
from .publishing import Publisher
from .request.media import media_fragments
from .request.openai_wire import openai_chat
from .request.provider_request import ProviderRequest
from .secrets.scrub import Scrubber
from .temporal.heartbeats import Heartbeat
from .temporal.server import given_up
from .wire.exchange import Exchange, recording

FIRST_PAUSE_S: Final = 0.5
"""Seconds between the first two polls. Each pause is longer by half."""

LONGEST_PAUSE_S: Final = 10.0
POLL_TIMEOUT_S: Final = 30.0
"""A poll that takes longer is repeated."""

CANCEL_TIMEOUT_S: Final = 2.0
"""Seconds that the end of an attempt waits for the provider to stop."""

_ID: Final = re.compile(r"(?!\.+$)[A-Za-z0-9_.=:-]{1,300}")
"""An id of a response. Those of gateways are longer than OpenAI's, and encoded."""

_ENDED: Final = frozenset({"completed", "failed", "incomplete", "cancelled"})
_GONE: Final = frozenset({404, 410})
_PASSING: Final = frozenset({408, 409, 425, 429})
_ACCESS: Final = ("api_base", "api_key", "api_version", "extra_headers", *FIXED_ARGUMENTS)


async def send(
    request: ProviderRequest, exchange: Exchange, heartbeat: Heartbeat, scrubber: Scrubber, publisher: Publisher | None
) -> Any:
    """Send the attempt's one request and read its response to the end.

    Args:
        request: The request.
        exchange: The attempt's record. It names the background response to follow, if there is one.
        heartbeat: Carries the id of a background response as soon as it is known.
        scrubber: Knows the worker's keys. The id of a response must not hold one.
        publisher: Publishes a streamed answer while it arrives. None: nobody asked for that.

    Returns:
        litellm's chat completion. The exchange's record says whether it is an answer.
    """
    with recording(exchange):
        if not request.spec.responses_api:
            exchange.required_fragments = media_fragments(request.messages)
            if (plain := await openai_chat(request)) is not None:
                return await ask(plain, request.model)
            pace = Pace(request)
            response = await pace.within(litellm.acompletion(**request.arguments))
            return await _collect_stream(response, pace, publisher)
        if request.spec.background:
            await _BackgroundResponse(request, exchange, heartbeat, scrubber).follow()
        else:
            await _send_to_responses(request, exchange, publisher)
        return completion_of(exchange.json())


async def warm_up() -> None:
    """Make litellm load what it loads at its first request: 0.3 s in which no heartbeat is sent.

    The request goes to a port of this machine where nobody listens.
    """
    with recording(Exchange()), contextlib.suppress(Exception):
        await litellm.acompletion(
            model="openai/warm-up", api_base="http://127.0.0.1:1", api_key="none",
            messages=[{"role": "user", "content": "Hi"}], **FIXED_ARGUMENTS,
        )  # fmt: skip


async def _collect_stream(response: Any, pace: Pace, publisher: Publisher | None) -> Any:
    """The response of litellm. A stream is read to its end and joined."""
    if not hasattr(response, "__aiter__"):
        return response
    chunks = []
    try:
        async for chunk in pace.pieces(response):
            chunks.append(chunk)
            if publisher is not None:
                publisher.take_chunk(chunk)
    finally:
        await response.aclose()
    built = litellm.stream_chunk_builder(chunks) or litellm.ModelResponse(choices=[])
    if built.choices and (tokens := _streamed_logprobs(chunks)):
        built.choices[0].logprobs = {"content": tokens}
    return built


def _streamed_logprobs(chunks: list[Any]) -> list[Any]:
    """The log probabilities of all chunks, which litellm's builder drops."""
    pieces = (plain_logprobs(getattr(choice, "logprobs", None)) for chunk in chunks for choice in chunk.choices)
    return [token for piece in pieces if piece for token in piece.get("content") or ()]


async def _send_to_responses(request: ProviderRequest, exchange: Exchange, publisher: Publisher | None) -> None:
    """Send the one request that is billed.

    Raises litellm's errors, except when the record holds a complete answer that only litellm cannot read.
    """
    try:
        pace = Pace(request)
        response = await pace.within(litellm.aresponses(**request.arguments))
        if hasattr(response, "__aiter__"):
            async for event in pace.pieces(response):
                if publisher is not None:
                    publisher.take_event(event)
    except TokenTimeoutError:
        raise
    except Exception:
        if not (exchange.succeeded and exchange.complete):
            raise


@dataclass
class _BackgroundResponse:
    """A response that the provider works on in the background."""

    request: ProviderRequest
    exchange: Exchange
    heartbeat: Heartbeat
    scrubber: Scrubber
    missed: int = 0

    async def follow(self) -> None:
        """Start the response or continue with an existing one. Returns when the record holds its end."""
        if self.exchange.response_id is None:
            await _send_to_responses(self.request, self.exchange, None)
            if (response_id := self._id()) is None:  # no response to follow: read what came
                return
            self.exchange.follow(response_id)
            self.heartbeat.send_details(AttemptHeartbeat(response_id=response_id))
        try:
            await self._poll_until_ended()
        except asyncio.CancelledError:
            if await given_up():
                await self._cancel()
            raise

    def _id(self) -> str | None:
        """The response's id, if it is safe in heartbeats, orders and URLs. The provider chooses it."""
        value = self.exchange.json()
        response_id = value.get("id") if isinstance(value, Mapping) else None
        if not isinstance(response_id, str) or not _ID.fullmatch(response_id):
            return None
        return None if self.scrubber.finds_key(response_id) else response_id

    @property
    def _access(self) -> dict[str, Any]:
        """Arguments of every poll."""
        arguments = self.request.arguments
        access = {name: arguments[name] for name in _ACCESS if name in arguments}
        return {**access, "custom_llm_provider": self.request.provider, "response_id": self.exchange.response_id}

    async def _poll_until_ended(self) -> None:
        backoff = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S, factor=1.5)
        if self.exchange.status is None:  # another attempt started it
            await self._poll()
        while self._in_progress():
            await backoff.pause(at_least_s=self._requested_pause())
            await self._poll()

    async def _poll(self) -> None:
        """Poll once. The record holds the result."""
        polls = self.exchange.polls
        try:
            async with asyncio.timeout(POLL_TIMEOUT_S):
                await litellm.aget_responses(**self._access)
        except Exception:
            if self.exchange.polls == polls:  # nothing was sent, and the next poll would not be sent either
                raise

    def _in_progress(self) -> bool:
        """Whether the response may still be in progress, by the last poll."""
        exchange = self.exchange
        if exchange.status is None or exchange.error is not None:
            return True
        if exchange.succeeded:
            value = exchange.json()
            return not isinstance(value, Mapping) or value.get("status") not in _ENDED
        if exchange.status in _GONE:
            self.missed += 1
            return self.missed < 2  # the first may come from a replica that does not know it yet
        return exchange.status in _PASSING or exchange.status >= 500

    def _requested_pause(self) -> float:
        """Seconds that the provider asked to wait before the next poll."""
        if self.exchange.succeeded:
            return 0.0
        wait = retry_after.parse(self.exchange.headers, self.exchange.json(), "", datetime.now(UTC))
        return wait.seconds if wait else 0.0

    async def _cancel(self) -> None:
        """Ask the provider to stop. Its reply does not matter and is not recorded."""
        with recording(replace(self.exchange)), contextlib.suppress(Exception):
            async with asyncio.timeout(CANCEL_TIMEOUT_S):
                await litellm.acancel_responses(**self._access)
