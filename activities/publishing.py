"""Publish an answer while it is written.

Publishing never fails an attempt: where it cannot go on, the text comes with the result. No key gets out: a word is
published when it has ended, and a worker that finds one of its keys in it publishes nothing more of the attempt.
"""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final, Self

from temporalio import activity

from durable_llm.contract.request import AttemptOrder
from durable_llm.contract.stream import Batch, Delta
from durable_llm.streams import KEPT, Channel, Streams

from .secrets.scrub import Scrubber

logger = logging.getLogger("durable_llm")

SWEEP_S: Final = 3600.0
"""Seconds between two sweeps of old streams by one worker."""

PUBLISH_S: Final = 5.0
"""Seconds that a place has to take a batch. Beyond that the attempt publishes nothing more."""

_WORD: Final = re.compile(r"[A-Za-z0-9_.~+/=%*-]*\Z")
"""What may be the beginning of a key. Other characters end a word, those of other scripts too."""


class Publishing:
    """Makes publishers with one worker's place for streams.

    Args:
        streams: The place.
    """

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._swept_at = -SWEEP_S
        self._sweeping: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def of(self, order: AttemptOrder) -> AsyncIterator["Publisher | None"]:
        """A publisher for the running attempt, if its call asks for one."""
        if not order.streams:
            yield None
            return
        self._sweep()
        running = activity.info()
        channel = self._streams.channel(activity.client(), running.workflow_id or "", running.workflow_run_id or "")
        async with Publisher(channel, order.number, order.spec.name) as publisher:
            yield publisher

    def _sweep(self) -> None:
        """Delete old streams, now and then and beside the attempts."""
        if time.monotonic() - self._swept_at < SWEEP_S:
            return
        self._swept_at = time.monotonic()

        async def sweep() -> None:
            with suppress(OSError):
                await self._streams.sweep(datetime.now(UTC) - KEPT)

        self._sweeping = asyncio.create_task(sweep())


class Publisher:
    """Publishes the pieces of one attempt's answer while the block runs.

    Args:
        channel: The call's stream.
        attempt: The attempt's number.
        model: The model that is asked.

    Attributes:
        scrubber: Finds the worker's keys.
        answered: Whether the attempt has an answer; to be set before the block ends.
    """

    def __init__(self, channel: Channel, attempt: int, model: str) -> None:
        self.scrubber = Scrubber()
        self.answered = False
        self._channel = channel
        self._attempt = attempt
        self._model = model
        self._open: dict[tuple[str, int], str] = {}
        self._waiting: list[Delta] = []
        self._some_waiting = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._left = channel.max_bytes
        self._batches = 0
        self._failed = False

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        if kind is None:
            for (name, index), rest in self._open.items():
                self._publish(Delta(kind=name, text=rest, index=index))
            await self._flush(Batch(ended=not self.answered))

    def take_chunk(self, chunk: Any) -> None:
        """Publish what is in a chunk of a chat completion, as litellm gives it."""
        for choice in chunk.choices[:1]:
            delta = choice.delta
            self._add("reasoning", getattr(delta, "reasoning_content", None))
            self._add("text", getattr(delta, "content", None))
            for call in getattr(delta, "tool_calls", None) or ():
                self._add("tool_call", call.function.arguments, call.index or 0, call.function.name)

    def take_event(self, event: Any) -> None:
        """Publish what is in an event of a response, as litellm gives it."""
        match getattr(event, "type", None):
            case "response.output_text.delta":
                self._add("text", event.delta)
            case "response.reasoning_summary_text.delta":
                self._add("reasoning", event.delta)
            case "response.function_call_arguments.delta":
                self._add("tool_call", event.delta, event.output_index)

    def _add(self, kind: str, text: Any, index: int = 0, name: str | None = None) -> None:
        """Publish a piece up to its last word, which may go on."""
        if not isinstance(text, str) or not (text or name):
            return
        text = self._open.pop((kind, index), "") + text
        rest = _WORD.search(text)[0]  # type: ignore[index]  # it matches the empty string at the end, too
        if rest:
            self._open[kind, index] = rest
        self._publish(Delta(kind=kind, text=text.removesuffix(rest), index=index, name=name))

    def _publish(self, delta: Delta) -> None:
        if not (delta.text or delta.name) or self._left <= 0:
            return
        self._left -= len(delta.text.encode())
        if self._left < 0:
            return
        if self.scrubber.clean_document(delta.text) != delta.text:
            self._left = 0
            return
        self._waiting.append(delta)
        self._some_waiting.set()

    async def _run(self) -> None:
        await asyncio.shield(self._flush(Batch(model=self._model)))
        while (collect_s := self._channel.collect_s(self._batches)) is not None:
            await self._some_waiting.wait()
            await asyncio.sleep(collect_s)
            await asyncio.shield(self._flush(Batch()))

    async def _flush(self, batch: Batch) -> None:
        """Publish what waits. One batch at a time, so that they stay in order."""
        async with self._one_at_a_time:
            waiting, self._waiting = self._waiting, []
            self._some_waiting.clear()
            batch = batch.model_copy(update={"deltas": waiting})
            if batch == Batch() or self._failed:
                return
            self._batches += 1
            try:
                async with asyncio.timeout(PUBLISH_S):
                    await self._channel.append(self._attempt, self._batches, batch)
            except Exception as error:  # a disk, a network, a key
                logger.warning("the stream of an attempt cannot be published: %s", type(error).__name__)
                self._failed, self._left = True, 0
