"""Asking a model by the Responses API: at once, or in the background, where the provider works by itself.

A background response outlives the worker that asked for it. Its id is told by heartbeat as soon as it is known, so that
the attempt after a lost worker's follows the same response: asked once, paid once. Only the first request bills
anything; the questions how far the response is may fail without the attempt failing.
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

from .answer.responses import completion_of
from .failure import retry_after
from .litellm_setup import FIXED_ARGUMENTS, litellm
from .secrets.scrub import Scrubber
from .temporal.heartbeats import Pulse
from .temporal.server import given_up
from .wire.exchange import Exchange, recording

FIRST_PAUSE_S: Final = 0.5
"""Between the first two questions; each pause after it is longer by half."""

LONGEST_PAUSE_S: Final = 10.0
LOOK_TIMEOUT_S: Final = 30.0
"""A question that takes longer is asked again."""

CANCEL_TIMEOUT_S: Final = 2.0
"""How long the end of an attempt may wait for the provider to stop working on it."""

_ID: Final = re.compile(r"(?!\.+$)[A-Za-z0-9_.=:-]{1,300}")
"""What an id is: a gateway's are longer than OpenAI's, and encoded."""

_ENDED: Final = frozenset({"completed", "failed", "incomplete", "cancelled"})
_GONE: Final = frozenset({404, 410})
_PASSING: Final = frozenset({408, 409, 425, 429})
_ACCESS: Final = ("api_base", "api_key", "extra_headers", *FIXED_ARGUMENTS)


async def respond(
    request: Mapping[str, Any], provider: str, exchange: Exchange, pulse: Pulse, scrubber: Scrubber
) -> Any:
    """Ask, and read the answer from the wire.

    Args:
        request: Arguments for `litellm.aresponses`.
        provider: litellm's name of the provider.
        exchange: The attempt's record; it names the response to go on with, if there is one.
        pulse: Told of a background response as soon as it has an id.
        scrubber: Knows the worker's keys, which no id that is followed may hold.

    Returns:
        litellm's chat completion; what the exchange recorded says whether it is an answer.
    """
    if request.get("background"):
        access = {name: request[name] for name in _ACCESS if name in request}
        followed = _Followed(exchange, {**access, "custom_llm_provider": provider}, scrubber)
        await followed.to_its_end(request, pulse)
    else:
        await _send(request, exchange)
    return completion_of(exchange.json())


async def _send(request: Mapping[str, Any], exchange: Exchange) -> None:
    """Send the one request that is billed.

    Raises whatever litellm does, unless the record holds a whole answer: that litellm cannot read it loses nothing.
    """
    try:
        response = await litellm.aresponses(**request)
        if hasattr(response, "__aiter__"):
            async for _ in response:
                pass
    except Exception:
        if not (exchange.succeeded and exchange.complete):
            raise


@dataclass
class _Followed:
    """One background response."""

    exchange: Exchange
    access: dict[str, Any]
    scrubber: Scrubber
    missed: int = 0

    async def to_its_end(self, request: Mapping[str, Any], pulse: Pulse) -> None:
        """Begin the response, or go on with the one that there is, and return when the record holds its end."""
        if self.exchange.response_id is None:
            await _send(request, self.exchange)
            if (response_id := self._id()) is None:  # nothing to follow; what came is judged
                return
            self.exchange.follow(response_id)
            pulse.tell(AttemptHeartbeat(response_id=response_id))
        try:
            await self._look_until_ended()
        except asyncio.CancelledError:
            if await given_up():
                await self._cancel()
            raise

    def _id(self) -> str | None:
        """The response's id, if it may stand in heartbeats, orders and addresses: the provider chose it."""
        value = self.exchange.json()
        response_id = value.get("id") if isinstance(value, Mapping) else None
        if not isinstance(response_id, str) or not _ID.fullmatch(response_id):
            return None
        return None if self.scrubber.finds_key(response_id) else response_id

    async def _look_until_ended(self) -> None:
        backoff = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S, factor=1.5)
        if self.exchange.status is None:  # another attempt began it
            await self._look()
        while self._goes_on():
            await backoff.pause(at_least_s=self._asked_pause())
            await self._look()

    async def _look(self) -> None:
        """Ask once how far it is; the record holds what came, or that nothing did."""
        looks = self.exchange.looks
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                await litellm.aget_responses(response_id=self.exchange.response_id, **self.access)
        except Exception:
            if self.exchange.looks == looks:  # nothing was sent, and the next one would not be either
                raise

    def _goes_on(self) -> bool:
        """Whether the response may still be under way, as far as the last look tells."""
        exchange = self.exchange
        if exchange.status is None or exchange.error is not None:
            return True
        if exchange.succeeded:
            value = exchange.json()
            return not isinstance(value, Mapping) or value.get("status") not in _ENDED
        if exchange.status in _GONE:
            self.missed += 1
            return self.missed < 2  # one may be a replica that has not heard of it yet
        return exchange.status in _PASSING or exchange.status >= 500

    def _asked_pause(self) -> float:
        """Seconds that a provider asked to wait when it did not answer."""
        if self.exchange.succeeded:
            return 0.0
        wait = retry_after.parse(self.exchange.headers, self.exchange.json(), "", datetime.now(UTC))
        return wait.seconds if wait else 0.0

    async def _cancel(self) -> None:
        """Tell the provider to stop; whether it does is its own affair, and the record stays as it is."""
        with recording(replace(self.exchange)), contextlib.suppress(Exception):
            async with asyncio.timeout(CANCEL_TIMEOUT_S):
                await litellm.acancel_responses(response_id=self.exchange.response_id, **self.access)
