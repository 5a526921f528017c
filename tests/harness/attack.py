"""`make attack`: hostile callers and providers against three workers, beside a caller who only wants an answer.

For each attack it prints how long the bystander waited, alone and beside twenty hostile calls, and what leaked into the
workers' output, and at last how long a worker takes to stop while it is attacked. The status is 1 if a bystander got no
answer, a worker ended by itself or did not stop, or a key leaked.
"""

import asyncio
import gzip
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from durable_llm import Dispatcher, DurableLLMError, ModelSpec, Policy
from durable_llm.contract import search_attributes
from durable_llm.contract.names import WORKFLOW
from durable_llm.encryption.codec import data_converter
from tests.support import ROOT
from tests.support.processes import ANSWER, SERVES
from tests.support.wire import playing
from workers.dev.children import Child
from workers.dev.server import find_temporal

WORKERS: Final = 3
HOSTILE: Final = 20
BYSTANDERS: Final = 10
KEY: Final = "sk-canary-0123456789abcdefghijkl"
QUEUE: Final = "attacked"
ENDS: Final = Policy(max_attempts=1, patience=timedelta(0))
ENDLESS: Final = "a" * 60 + "!"

CHOICE: Final = ANSWER["choices"][0]


def _says(text: str) -> dict[str, Any]:
    return {**SERVES, "body": {**ANSWER, "choices": [{**CHOICE, "message": {"role": "assistant", "content": text}}]}}


def _nested(depth: int) -> dict[str, Any]:
    levels = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n - 1}"}] * 2} for n in range(1, depth)}
    return {"$defs": {"d0": {"const": 1}, **levels}, "$ref": f"#/$defs/d{depth - 1}"}


def _format(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "hostile", "schema": schema}}


@dataclass(frozen=True)
class Attack:
    """What a hostile provider sends, and what a hostile caller asks for."""

    name: str
    provider: dict[str, Any]
    options: dict[str, Any]


ATTACKS: Final = (
    Attack("pattern of property names", _says(json.dumps({ENDLESS: 1})),
           {"response_format": _format({"type": "object", "patternProperties": {"^(a+)+$": {"type": "null"}}})}),
    Attack("nested allOf", _says("1"), {"response_format": _format(_nested(40))}),
    Attack("validator's pattern", _says(ENDLESS), {"validators": [{"name": "regex", "parameters": {"pattern": "^(a|a?)+$"}}]}),
    Attack("500,000 choices", {**SERVES, "raw": json.dumps({**ANSWER, "choices": [CHOICE] * 500_000}).encode()}, {}),
    Attack("compressed body", {**SERVES, "headers": {"content-encoding": "gzip"},
                               "raw": gzip.compress(b'"' + b"a" * 100_000_000 + b'"')}, {}),
    Attack("endless line", {**SERVES, "headers": {"content-type": "text/event-stream"},
                            "raw": b"data: " + b"a" * 20_000_000}, {}),
    Attack("key in the error", {"http_status": 400, "body": {"error": {"message": f"bad key {KEY}\x1b[2J {KEY.upper()}"}}}, {}),
    Attack("key in the finish reason", {**SERVES, "body": {**ANSWER, "choices": [{**CHOICE, "finish_reason": KEY}]}}, {}),
)  # fmt: skip


async def answered_in(dispatcher: Dispatcher, url: str) -> float:
    """Seconds that the bystander waits for one answer."""
    began = time.monotonic()
    await dispatcher.call(ModelSpec(name="openai/m", api_base=url), "Name a prime.", wait=timedelta(seconds=120))
    return time.monotonic() - began


async def raw_calls(client: Client) -> None:
    """Start workflows as no client of ours does."""
    for number in range(HOSTILE):
        arguments: list[Any] = [["?", "?", "?"], [], [{"models": "?"}, "?"]][number % 3]
        handle = await client.start_workflow(WORKFLOW, args=arguments, id=f"raw-{number}", task_queue=QUEUE)
        with suppress(Exception):
            await handle.result()


async def hostile_calls(dispatcher: Dispatcher, attack: Attack) -> None:
    """Twenty calls at once, to their end."""

    async def one(url: str) -> None:
        spec = ModelSpec(name="openai/m", api_base=url, api_key="os.environ/CANARY_KEY", timeout=60)
        with suppress(DurableLLMError):
            await dispatcher.call(spec, "Name a prime.", policy=ENDS, wait=timedelta(seconds=200), **attack.options)

    async with playing(attack.provider) as wire:
        await asyncio.gather(*(one(wire.url) for _ in range(HOSTILE)))


async def beside(dispatcher: Dispatcher, url: str, hostile: "asyncio.Task[None]") -> list[float]:
    """The bystander's waits while the hostile calls last, ten at least."""
    waits: list[float] = []
    while len(waits) < BYSTANDERS or not hostile.done():
        waits.append(await answered_in(dispatcher, url))
    await hostile
    return waits


async def run(attacks: Sequence[Attack] = ATTACKS) -> int:
    """Attack, and print what it did. The result is the exit status."""
    console, lines, failures = Console(), list[str](), 0
    async with AsyncExitStack() as stack:
        env = await stack.enter_async_context(await WorkflowEnvironment.start_local(
            dev_server_existing_path=find_temporal(), data_converter=data_converter({}),
            search_attributes=search_attributes.ALL, dev_server_log_level="error",
        ))  # fmt: skip
        secrets_dir = stack.enter_context(tempfile.TemporaryDirectory())
        workers = [await _worker(env, secrets_dir, lines.append) for _ in range(WORKERS)]
        for worker in workers:
            stack.push_async_callback(worker.stop)
        while sum("worker ready" in line for line in lines) < WORKERS:
            await asyncio.sleep(0.1)
        dispatcher = await stack.enter_async_context(Dispatcher(env.client, task_queue=QUEUE))
        good = await stack.enter_async_context(playing(SERVES))
        alone = [await answered_in(dispatcher, good.url) for _ in range(2 * BYSTANDERS)]
        table = Table("attack", "hostile calls", "bystander, median", "longest", "of alone", "leaked")
        runs: list[tuple[str, Callable[[], Any]]] = [
            *((attack.name, lambda attack=attack: hostile_calls(dispatcher, attack)) for attack in attacks),
            ("raw clients", lambda: raw_calls(env.client)),
        ]
        for name, start in runs:
            began, seen = time.monotonic(), len(lines)
            waits = await beside(dispatcher, good.url, asyncio.create_task(start()))
            leaks = [line for line in lines[seen:] if "0123456789abcdefghijkl" in line.lower() or "\x1b[2J" in line]
            leaked = len(leaks)
            for line in leaks:
                console.print(f"leaked: {line!r}", markup=False)
            ratio = statistics.median(waits) / statistics.median(alone)
            failures += bool(leaked)
            table.add_row(name, f"{time.monotonic() - began:.1f} s", f"{statistics.median(waits) * 1000:.0f} ms",
                          f"{max(waits):.2f} s", f"{ratio:.1f} x", str(leaked or "nothing"))  # fmt: skip
        console.print(table)
        console.print(f"alone: median {statistics.median(alone) * 1000:.0f} ms, longest {max(alone):.2f} s")
        ended = [worker.pid for worker in workers if worker.returncode is not None]
        console.print(f"workers that ended: {ended or 'none'}")
        began, hostile = time.monotonic(), asyncio.create_task(hostile_calls(dispatcher, attacks[0]))
        await asyncio.sleep(1)
        for worker in workers:
            os.kill(worker.pid, signal.SIGTERM)
        stopped = [await worker.wait() for worker in workers]
        hostile.cancel()
        console.print(f"a second after twenty calls of {attacks[0].name!r}, SIGTERM: workers stopped with status "
                      f"{stopped} in {time.monotonic() - began - 1:.1f} s")  # fmt: skip
    return 1 if failures or ended or any(stopped) else 0


async def _worker(env: WorkflowEnvironment, secrets_dir: str, on_line: Callable[[str], None]) -> Child:
    settings: dict[str, str | None] = {
        "TEMPORAL_ADDRESS": env.client.service_client.config.target_host, "TEMPORAL_NAMESPACE": "default",
        "DURABLE_LLM_TASK_QUEUE": QUEUE, "DURABLE_LLM_API_BASE_HOSTS": "127.0.0.1", "CANARY_KEY": KEY,
        "DURABLE_LLM_KEYS": "CANARY_KEY=127.0.0.1", "DURABLE_LLM_SECRETS_DIR": secrets_dir,
        "PYTHONPATH": str(Path(ROOT)), "DURABLE_LLM_GRACEFUL_SHUTDOWN_S": "5",
    }  # fmt: skip
    return await Child.start("worker", [sys.executable, "-m", "workers"], env=settings, on_line=on_line)


if __name__ == "__main__":
    sys.exit(asyncio.run(run()))
