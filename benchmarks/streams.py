"""`make bench-streams`: over each place, how soon a reader sees a token and what it costs, and 200 streams at once."""

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import psutil
from rich.console import Console
from temporalio.client import Client

from benchmarks.stand import Stand, cpu_s, own_cpu_s
from benchmarks.tables import Row, save, terminal
from durable_llm import Dispatcher, ModelSpec, TextDelta
from durable_llm.streams import STREAMS_VARIABLE, open_streams
from tests.support.stream_places import PLACES, stream_place

REPORT: Final = Path(".durable-llm/bench/streams.json")
LONG: Final = 2_000
"""Tokens of an answer."""

AT_ONCE: Final = 200
HEADINGS: Final = (
    "place", "streams at once", "tokens of each", "first token, ms", "a token, p50 ms", "p99 ms", "events",
    "CPU ms a stream: Temporal", "place", "worker", "readers",
)  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """What equal streams took. Delays are from the provider's write to the reader's event, in ms."""

    place: str
    streams: int
    tokens: int
    first_ms: float
    p50_ms: float
    p99_ms: float
    events: int
    temporal_ms: float
    place_ms: float
    worker_ms: float
    readers_ms: float


def rows(found: Iterable[Measured]) -> Iterable[Row]:
    """One row for each measurement, as HEADINGS names the columns."""
    for one in found:
        yield (
            one.place, str(one.streams), str(one.tokens), f"{one.first_ms:.0f}", f"{one.p50_ms:.0f}",
            f"{one.p99_ms:.0f}", str(one.events), f"{one.temporal_ms:.0f}", f"{one.place_ms:.0f}",
            f"{one.worker_ms:.0f}", f"{one.readers_ms:.0f}",
        )  # fmt: skip


@dataclass(frozen=True)
class Readers:
    """Reads streams in this process."""

    place: str
    stand: Stand
    worker: psutil.Process
    client: Client
    dispatcher: Dispatcher

    async def measure(self, streams: int, tokens: int, pause_ms: int) -> Measured:
        """Read equal streams, all at once."""
        root = self.stand.env["OPENAI_BASE_URL"].removesuffix("/v1")
        model = ModelSpec(name="openai/gpt-4o-mini", api_base=f"{root}/stream/{tokens}/{pause_ms}/v1")
        ids = [f"{streams}-{tokens}-{number}" for number in range(streams)]
        before = self._cpu_s()
        found = await asyncio.gather(*(self._delays_ms(model, call_id) for call_id in ids))
        cpu = [(now - then) / streams * 1e3 for now, then in zip(self._cpu_s(), before, strict=True)]
        percentiles = statistics.quantiles([delay for delays in found for delay in delays], n=100)
        events = (await self.client.get_workflow_handle(ids[0]).describe()).history_length
        first = statistics.median(delays[0] for delays in found)
        return Measured(self.place, streams, tokens, first, percentiles[49], percentiles[98], events, *cpu)

    async def _delays_ms(self, model: ModelSpec, call_id: str) -> list[float]:
        """For each token of a stream, how long after it was sent it was here."""
        delays: list[float] = []
        async for event in self.dispatcher.stream(model, "What is the time?", call_id=call_id):
            if isinstance(event, TextDelta):
                delays += [(time.time() - float(sent)) * 1e3 for sent in event.text.split()]
        return delays

    def _cpu_s(self) -> tuple[float, float, float, float]:
        place = self.stand.servers.get("place")
        return cpu_s(self.stand.servers["temporal"]), cpu_s(place) if place else 0.0, cpu_s(self.worker), own_cpu_s()


async def run(kind: str) -> list[Measured]:
    """Measure one long answer, and many at once, over one kind of place."""
    async with AsyncExitStack() as stack:
        stand = Stand(stack)
        stand.env[STREAMS_VARIABLE], pid = stack.enter_context(stream_place(kind))
        await stand.build()
        if pid is not None:
            stand.servers["place"] = psutil.Process(pid)
        client = await stand.client()
        streams = open_streams(stand.env[STREAMS_VARIABLE])
        dispatcher = await stack.enter_async_context(Dispatcher(client, streams=streams))
        readers = Readers(kind, stand, await stand.worker(), client, dispatcher)
        await readers.measure(5, 5, 1)
        return [await readers.measure(1, LONG, 5), await readers.measure(AT_ONCE, 60, 500)]


def main() -> None:
    """Measure, print and write the report."""
    found = [one for kind in PLACES for one in asyncio.run(run(kind))]
    Console(width=140).print(terminal(HEADINGS, rows(found)))
    save(REPORT, [asdict(one) for one in found])


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
