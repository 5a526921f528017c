"""A call's answer while it is written.

What workers publish is a preview, and the call's history is the truth. A stream shows the preview of one attempt at a
time, withdraws it when the attempt did not give the answer, and ends with the durable result, whatever was published
before. So its text equals the result's at the end, even if nothing was published.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

from durable_llm.client.stream_events import (
    AttemptStarted,
    AttemptWithdrawn,
    Done,
    ReasoningDelta,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    Waiting,
)
from durable_llm.contract.categories import Outcome
from durable_llm.contract.ledger import Attempt
from durable_llm.contract.result import LLMResult
from durable_llm.contract.stream import Batch, Delta
from durable_llm.errors import DurableLLMError, InvalidRequestError
from durable_llm.streams import Channel, Place

LEDGER_S: Final = 1.0
"""Seconds without a piece until the call's ledger is asked. They double while nothing comes."""

LONGEST_LEDGER_S: Final = 10.0

LAST_LOOK_S: Final = 2.0
"""Seconds that the place has to give what was published before the call's end."""

AGAIN_S: Final = 0.5
"""Seconds until the place is asked again after it did not answer."""

Position = tuple[int, int]
"""An attempt's number, and characters of its text."""


class StreamedCall:
    """What a stream needs of a call.

    Args:
        result: Awaits the call's result.
        attempts: Reads the call's ledger.
        channel: Opens what the workers of its latest run publish; the same object while that is the same run.
    """

    def __init__(
        self,
        result: Callable[[], Awaitable[LLMResult]],
        attempts: Callable[[], Awaitable[list[Attempt]]],
        channel: Callable[[], Awaitable[Channel]],
    ) -> None:
        self.result = result
        self.attempts = attempts
        self.channel = channel


class CallStream:
    """The events of one call: `async for event in stream`. It can be read once; make another for a second reader.

    Args:
        call: Starts the call or attaches to it.
        after: Events of text up to here are left out.

    Attributes:
        text: What a screen should show now: the text of the attempt that runs, or the answer.

    Raises:
        InvalidRequestError: `after` is not a position.
    """

    def __init__(self, call: Callable[[], Awaitable[StreamedCall]], after: Position | None = None) -> None:
        if after is not None and not _is_position(after):
            raise InvalidRequestError(
                f"after: expected the position of a TextDelta, (attempt, characters); got {after!r}"
            )
        self.text = ""
        self._open = call
        self._after = after
        self._was_read = False
        self._attempt = after[0] if after else 0
        self._shown = after is not None
        self._reasoning = 0
        self._place: Place = (self._attempt, 0)
        self._ended = False
        self._waited_after = 0
        self._ledger_pause_s = LEDGER_S
        self._ledger_at = time.monotonic() + LEDGER_S

    async def settled(self) -> AsyncIterator[str]:
        """Only text that will stand: the answer, once it is durable.

        Raises:
            DurableLLMError: how the call ended, as `CallHandle.result` raises it.
        """
        async for event in self:
            if isinstance(event, Done) and self.text:
                yield self.text

    async def __aiter__(self) -> AsyncIterator[StreamEvent]:
        """All events up to Done.

        Raises:
            InvalidRequestError: it was read before.
            DurableLLMError: how the call ended, as `CallHandle.result` raises it.
        """
        if self._was_read:
            raise InvalidRequestError("a stream is read once; call stream() again, with after= to go on")
        self._was_read = True
        call = await self._open()
        self._channel = await call.channel()
        result = asyncio.ensure_future(call.result())
        try:
            while not result.done():
                for event in await self._news(call, self._channel, result):
                    yield event
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_LOOK_S):
                    batches = await self._look(self._channel, 0)
                    for event in await self._read(call, batches):
                        yield event
            for event in self._end(result):
                yield event
            yield Done(await result)
        finally:
            result.cancel()
            await asyncio.gather(result, return_exceptions=True)

    async def _news(self, call: StreamedCall, channel: Channel, result: "asyncio.Future[Any]") -> list[StreamEvent]:
        """New pieces, or else what the ledger says after some time without any."""
        wait_s = 0.0 if self._ended else max(self._ledger_at - time.monotonic(), 0.0)
        looking: asyncio.Future[Any] = asyncio.ensure_future(self._look(channel, wait_s))
        try:
            await asyncio.wait([looking, result], return_when=asyncio.FIRST_COMPLETED)
            if not looking.done():
                return []
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        if events := await self._read(call, looking.result()):
            self._ledger_at, self._ledger_pause_s = time.monotonic() + LEDGER_S, LEDGER_S
            return events
        if not self._ended and time.monotonic() < self._ledger_at:
            return []
        self._ended, self._ledger_pause_s = False, min(self._ledger_pause_s * 2, LONGEST_LEDGER_S)
        self._ledger_at = time.monotonic() + self._ledger_pause_s
        await self._follow(call)
        return list(self._by_ledger(await _ledger(call)))

    async def _follow(self, call: StreamedCall) -> None:
        """Read in the call's latest run: a call whose deadline is extended goes on in another one."""
        with suppress(DurableLLMError):
            channel = await call.channel()
            if channel is not self._channel:
                self._channel, self._place = channel, (self._attempt, 0)

    async def _look(self, channel: Channel, wait_s: float) -> tuple[Sequence[Batch], Place]:
        """What was published since the last look. Nothing where it cannot be read: it comes with the result."""
        try:
            return await channel.read(self._place, wait_s)
        except OSError:
            await asyncio.sleep(min(wait_s, AGAIN_S))
            return [], self._place

    async def _read(self, call: StreamedCall, found: tuple[Sequence[Batch], Place]) -> list[StreamEvent]:
        """The events of what was published."""
        batches, place = found
        events: list[StreamEvent] = []
        if place[0] > self._attempt:
            events += self._turn_to(place[0], await _ledger(call) if self._shown else [])
        self._place = place
        for batch in batches:
            events += self._take(batch)
        return events

    def _turn_to(self, attempt: int, entries: list[Attempt]) -> Iterator[StreamEvent]:
        """Leave the current attempt for a newer one."""
        yield from self._withdraw(next((entry for entry in entries if entry.number == self._attempt), None))
        self._attempt, self._place, self._reasoning = attempt, (attempt, 0), 0

    def _withdraw(self, entry: Attempt | None, reason: str = "another attempt began") -> Iterator[StreamEvent]:
        """Take back what was shown, for the reason in the ledger where it is known."""
        if not self._shown:
            return
        self._shown, self.text, self._after = False, "", None
        if entry is None or entry.decision is None:
            yield AttemptWithdrawn(self._attempt, reason, None)
        else:
            yield AttemptWithdrawn(self._attempt, entry.message or str(entry.category), str(entry.decision))

    def _take(self, batch: Batch) -> Iterator[StreamEvent]:
        if batch.model is not None and not self._shown:
            self._shown = True
            yield AttemptStarted(self._attempt, batch.model)
        for delta in batch.deltas:
            yield from self._piece(delta)
        self._ended = self._ended or batch.ended

    def _piece(self, delta: Delta) -> Iterator[StreamEvent]:
        match delta.kind:
            case "text":
                yield from self._add(delta.text)
            case "reasoning":
                yield ReasoningDelta(self._attempt, self._reasoning, delta.text)
                self._reasoning += len(delta.text)
            case "tool_call":
                yield ToolCallDelta(self._attempt, delta.index, delta.name, delta.text)

    def _add(self, text: str) -> Iterator[StreamEvent]:
        """A piece of text, without what the reader has already."""
        offset = len(self.text)
        self.text += text
        known = max(self._after[1] - offset, 0) if self._after else 0
        if text[known:]:
            yield TextDelta(self._attempt, offset + known, text[known:])

    def _by_ledger(self, entries: list[Attempt]) -> Iterator[StreamEvent]:
        """What the pieces do not tell: attempts that publish nothing, failures, waits."""
        if not entries:
            return
        last = entries[-1]
        if last.number > self._attempt:
            yield from self._turn_to(last.number, entries)
            self._shown = True
            yield AttemptStarted(last.number, last.model)
        if last.outcome in (Outcome.FAILED, Outcome.UNKNOWN) and last.decision is not None:
            yield from self._withdraw(last)
            if last.delay_s is not None and self._waited_after < last.number:
                self._waited_after = last.number
                yield Waiting(last.delay_s, last.delay_reason or "")

    def _end(self, ended: "asyncio.Future[LLMResult]") -> Iterator[StreamEvent]:
        """The rest of the answer, or all of it in place of what was shown; or what was shown is withdrawn."""
        if ended.cancelled() or (error := ended.exception()) is not None:
            last = error.attempts[-1] if isinstance(error, DurableLLMError) and error.attempts else None
            yield from self._withdraw(last, "the call has ended without an answer")
            return
        result = ended.result()
        answer = result.text or ""
        number, model = (result.attempts[-1].number, result.attempts[-1].model) if result.attempts else (1, "")
        if number != self._attempt:
            yield from self._withdraw(None, "another attempt gave the answer")
        elif not answer.startswith(self.text):
            yield from self._withdraw(None, "the stored answer is another text")
        self._attempt = number
        if not self._shown:
            self._shown = True
            yield AttemptStarted(number, model)
        yield from self._add(answer[len(self.text) :])


async def _ledger(call: StreamedCall) -> list[Attempt]:
    """The call's ledger; [] where it cannot be read now."""
    with suppress(DurableLLMError):
        return await call.attempts()
    return []


def _is_position(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, int) and part >= 0 for part in value)
