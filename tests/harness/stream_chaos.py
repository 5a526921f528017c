"""`make stream-chaos`: over each place, streams are read until 40 workers and 40 readers were killed in the middle.

The provider cuts, drops and garbles streams, too. A reader that was killed is started again behind the last piece that
it had. At the end, what each reader has on its screen must be the call's answer, and that what its model says as a whole.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from durable_llm import Dispatcher
from tests.harness.parts.provider import PATHS, Provider, client
from tests.harness.stream_reader import question
from tests.support.stream_places import PLACES, stream_place
from workers.dev.children import Child
from workers.dev.server import DevServer, ServerOptions
from workers.dev.stack import WORKER_READY

KILLS: Final = 40
AT_ONCE: Final = 8
WORKERS: Final = 4
READER_LIVES_S: Final = (3.0, 12.0)
BETWEEN_KILLS_S: Final = (2.0, 3.5)
LLMOCK: Final = (
    "--response-style", "varied", "--stream-chunk-delay-ms", "120",
    "--stream-fault", "truncate=0.1", "--stream-fault", "disconnect=0.1", "--stream-fault", "malformed=0.05",
)  # fmt: skip


@dataclass
class Screen:
    """What one reader shows: pieces joined, withdrawn ones removed."""

    text: str = ""
    position: tuple[int, int] | None = None
    withdrawn: int = 0
    wrong_offsets: int = 0
    answer: str | None = None

    def take(self, line: str) -> None:
        """Follow an event."""
        event = json.loads(line)
        match event["event"]:
            case "AttemptStarted":
                self.text = ""
            case "AttemptWithdrawn":
                self.text, self.withdrawn = "", self.withdrawn + 1
            case "TextDelta":
                self.wrong_offsets += event["offset"] != len(self.text)
                self.text += event["text"]
                self.position = event["attempt"], len(self.text)
            case "Done":
                self.answer = event["text"]


@dataclass
class Counts:
    """What happened."""

    streams: int = 0
    readers_killed: int = 0
    workers_killed: int = 0
    withdrawn: int = 0
    attempts: int = 0
    attempts_lost_with_a_worker: int = 0
    wrong: list[str] = field(default_factory=list)
    """Streams whose text is not the answer, or whose answer is not what the model says."""


class StreamChaos:
    """One run.

    Args:
        env: The environment of workers and readers.
        provider: The simulated provider.
        kills: How many workers, and how many readers, are killed at least; streams are read until then.
    """

    def __init__(self, env: dict[str, str | None], provider: Provider, kills: int) -> None:
        self._env = env
        self._provider = provider
        self._kills = kills
        self._random = random.Random(7)  # noqa: S311  # moments, not secrets
        self._ready: list[Child] = []
        self.counts = Counts()

    async def run(self) -> Counts:
        """Read all streams to their end."""
        keeping = [asyncio.create_task(self._keep_worker()) for _ in range(WORKERS)]
        killing = asyncio.create_task(self._kill_workers())
        try:
            await asyncio.gather(*(self._read_some() for _ in range(AT_ONCE)))
        finally:
            for task in (killing, *keeping):
                task.cancel()
            await asyncio.gather(killing, *keeping, return_exceptions=True)
        return self.counts

    async def _read_some(self) -> None:
        while min(self.counts.workers_killed, self.counts.readers_killed) < self._kills:
            self.counts.streams += 1
            await self._read(f"stream-{self.counts.streams}")

    async def _read(self, call_id: str) -> None:
        """Read one stream, with readers that are killed until one of them sees the end."""
        screen = Screen()
        while screen.answer is None:
            reader = await self._reader(call_id, screen)
            try:
                async with asyncio.timeout(self._random.uniform(*READER_LIVES_S)):
                    await reader.wait()
            except TimeoutError:
                reader.signal(signal.SIGKILL)
                await reader.wait()
                self.counts.readers_killed += 1
            # A reader that ends just as it is killed has no status of its own.
            if reader.returncode not in (0, -signal.SIGKILL) and screen.answer is None:
                raise RuntimeError(f"{call_id}: the reader failed:\n{reader.last_lines}")
        self.counts.withdrawn += screen.withdrawn
        if screen.text != screen.answer or screen.wrong_offsets:
            self.counts.wrong.append(call_id)

    async def _reader(self, call_id: str, screen: Screen) -> Child:
        position = map(str, screen.position or ())
        command = [sys.executable, "-m", "tests.harness.stream_reader", call_id, self._provider.base_of("openai")]

        def take(line: str) -> None:
            if line.startswith('{"event"'):
                screen.take(line)

        return await Child.start("reader", [*command, *position], env=self._env, on_line=take)

    async def _keep_worker(self) -> None:
        """Keep one worker running, and start another when it was killed."""
        while True:
            ready = asyncio.Event()
            worker = await Child.start(
                "worker", [sys.executable, "-m", "workers"], env=self._env,
                on_line=lambda line, ready=ready: ready.set() if line.startswith(WORKER_READY) else None,
            )  # fmt: skip
            try:
                await ready.wait()
                self._ready.append(worker)
                await worker.wait()
            finally:
                await worker.stop(0.1)

    async def _kill_workers(self) -> None:
        """Kill one worker after the other, as long as another goes on."""
        while True:
            await asyncio.sleep(self._random.uniform(*BETWEEN_KILLS_S))
            if len(self._ready) > 1:
                self._ready.pop(0).signal(signal.SIGKILL)
                self.counts.workers_killed += 1


async def run(kind: str, kills: int, console: Console) -> Counts:
    """Run it over one kind of place, recount and print."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(DevServer(ServerOptions(port=0, ui_port=None, data=None)))
        provider = await stack.enter_async_context(Provider("openai", options=LLMOCK))
        await provider.ready()
        place, _ = stack.enter_context(stream_place(kind))
        env = {
            **server.env, "DURABLE_LLM_STREAMS": place, "DURABLE_LLM_API_BASE_HOSTS": "127.0.0.1",
            "DURABLE_LLM_HEARTBEAT_TIMEOUT_S": "4", "DURABLE_LLM_LOG_LEVEL": "WARNING",
        }  # fmt: skip
        began = time.monotonic()
        counts = await StreamChaos(env, provider, kills).run()
        took = time.monotonic() - began
        os.environ["TEMPORAL_ADDRESS"] = server.address
        await recount(counts, provider, await stack.enter_async_context(Dispatcher.connect()))
    table = Table(kind, f"in {took:.0f} s")
    for name, value in asdict(counts).items():
        table.add_row(name.replace("_", " "), str(value or "none"))
    console.print(table)
    return counts


async def recount(counts: Counts, provider: Provider, dispatcher: Dispatcher) -> None:
    """Count attempts by the histories, and compare each answer with what the provider says when nothing is in its way."""
    async with client(provider.root) as http:
        for number in range(counts.streams):
            call_id = f"stream-{number + 1}"
            result = await dispatcher.attach(call_id).result()
            counts.attempts += result.attempts_total
            counts.attempts_lost_with_a_worker += sum(entry.category == "worker_lost" for entry in result.attempts)
            asked = {"role": "user", "content": question(call_id)}
            model = result.attempts[-1].model.removeprefix("openai/")
            said = await http.post(f"{PATHS['openai']}/chat/completions", json={"model": model, "messages": [asked]})
            if said.json()["choices"][0]["message"]["content"] != result.text:
                counts.wrong.append(f"{call_id}: not what {model} says")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.harness.stream_chaos")
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--place", choices=PLACES, action="append", help="the places; default: all")
    parser.add_argument("--out", type=Path, default=Path(".durable-llm/stream-chaos/verdict.json"))
    given = parser.parse_args()
    found = {kind: asyncio.run(run(kind, given.kills, Console())) for kind in given.place or PLACES}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps({kind: asdict(counts) for kind, counts in found.items()}, indent=2) + "\n")
    sys.stdout.flush()
    os._exit(1 if any(one.wrong or not one.attempts_lost_with_a_worker for one in found.values()) else 0)
