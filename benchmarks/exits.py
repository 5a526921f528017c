"""`make exits`: every program of ours leaves with the status that it means.

The SDK's threads can abort an interpreter at its own exit, now and then, after all work is done; a script that reads
the status then takes a finished call for a failed one. What happens one time in eight is seen in many runs only, so
each way to end is run again and again, against one server: the command line, the worker, and a caller's own job that
leaves with a result pending.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from durable_llm import Dispatcher, ModelSpec
from durable_llm.cli.exits import Exit
from workers.dev.children import Child
from workers.dev.ports import free_port
from workers.dev.server import DevServer, ServerOptions

RUNS: Final = 200
"""Runs of the command line, and as many of the job."""

WORKERS: Final = 50
"""Runs of the worker that begin to work and are told to stop; each refusal to start is run a tenth as often."""

AT_ONCE: Final = 2
PATIENCE_S: Final = 120.0
REPORT: Final = Path(".durable-llm/bench/exits.json")
MODEL: Final = "openai/gpt-4o-mini"
QUESTION: Final = "Name a prime."
ANSWERED, WAITING = "exits-answered", "exits-waiting"
NOBODYS_QUEUE: Final = "exits-nobody"

_NOTHING: Final[Mapping[str, str]] = {}
_DEATHS: Final = ("Fatal Python error", "panicked at", "core dumped", "Aborted")

Ending = Callable[[Process], Awaitable[None]]
"""What is done to a program so that it ends."""


async def by_itself(_: Process) -> None:
    """Nothing."""


async def reader_gone(process: Process) -> None:
    """Close the pipe that the program writes to."""
    process.stdout._transport.close()  # type: ignore[union-attr]  # asyncio has no other way to close a reading end


def told(number: signal.Signals, stream: str = "stdout") -> Ending:
    """Send a signal once the program has written its first line."""

    async def end(process: Process) -> None:
        await getattr(process, stream).readline()
        process.send_signal(number)

    return end


@dataclass(frozen=True)
class Program:
    """One way to run a program of ours, and how it must end."""

    name: str
    command: tuple[str, ...]
    status: int
    ends: Ending
    env: Mapping[str, str]


def cli(
    name: str, status: Exit, *arguments: str, ends: Ending = by_itself, env: Mapping[str, str] = _NOTHING
) -> Program:
    """A run of `durable-llm`."""
    return Program(f"durable-llm, {name}", ("-m", "durable_llm.cli", *arguments), status, ends, env)


def worker(name: str, status: int, ends: Ending = by_itself, env: Mapping[str, str] = _NOTHING) -> Program:
    """A run of the worker."""
    return Program(f"worker, {name}", ("-m", "workers"), status, ends, env)


NOWHERE: Final = {"TEMPORAL_ADDRESS": "127.0.0.1:1"}
REQUEST: Final = {"custom_id": "a", "body": {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}]}}
BATCH: Final = (
    "batch", "{directory}/requests.jsonl", "-o", "{directory}/answers.jsonl", "--api-base", "http://127.0.0.1:1",
    "--max-retries", "0", "--policy", "patience=1ms",
)  # fmt: skip
"""Its one request fails, because nothing listens there."""

NOBODY: Final = ("--task-queue", NOBODYS_QUEUE, "--progress")

COMMAND_LINE: Final = (
    cli("version", Exit.OK, "version"),
    cli("an answer", Exit.OK, "call", "-m", MODEL, "--api-base", "{provider}", QUESTION),
    cli("a stored answer", Exit.OK, "result", ANSWERED, "--json"),
    cli("a ledger", Exit.OK, "show", ANSWERED),
    cli("a list", Exit.OK, "list"),
    cli("no answer", Exit.FAILED, "call", "-m", MODEL, "--api-base", "http://not-listed.invalid", QUESTION),
    cli("wrong usage", Exit.USAGE, "call", "--no-such-option"),
    cli("no server", Exit.UNAVAILABLE, "list", "--connect-wait", "200ms", env=NOWHERE),
    cli("no such call", Exit.NOT_FOUND, "show", "exits-none"),
    cli("an id that is taken", Exit.CONFLICT, "submit", "-m", MODEL, "--id", ANSWERED, "Name another."),
    cli("no answer yet", Exit.NOT_READY, "result", WAITING, "--wait", "100ms"),
    cli("a batch to ask again", Exit.RETRYABLE, *BATCH),
    cli("Ctrl-C", Exit.INTERRUPTED, "call", "-m", MODEL, *NOBODY, "Hi", ends=told(signal.SIGINT, "stderr")),
    cli("SIGTERM", Exit.INTERRUPTED, "result", WAITING, "--progress", ends=told(signal.SIGTERM, "stderr")),
    cli("a reader that has gone", Exit.READER_GONE, "show", ANSWERED, ends=reader_gone),
)
LEAVING: Final = (
    Program(
        "a job, with a result pending",
        ("-m", "tests.harness.leaving_job", WAITING, MODEL, QUESTION),
        0,
        by_itself,
        _NOTHING,
    ),
)
WORKING: Final = (
    worker("SIGTERM", 0, told(signal.SIGTERM)),
    worker("Ctrl-C", 0, told(signal.SIGINT)),
)
REFUSING: Final = (
    worker("a setting that is none", 2, env={"DURABLE_LLM_SANDBOX": "perhaps"}),
    worker("no server", 3, env={"DURABLE_LLM_CONNECT_WAIT_S": "0.2", **NOWHERE}),
)


@dataclass(frozen=True)
class Ended:
    """One run."""

    program: str
    wanted: int
    status: int
    said: str
    """The end of what it wrote, where it ended otherwise than it should."""

    @property
    def right(self) -> bool:
        """Whether it ended as it should."""
        return self.status == self.wanted and not self.said


def turns(programs: Sequence[Program], runs: int) -> list[Program]:
    """`runs` runs, each program in its turn."""
    return list(islice(cycle(programs), runs))


async def run_all(programs: Sequence[Program], provider: str, env: Mapping[str, str]) -> list[Ended]:
    """Run all of `programs`, a few at once."""
    free = asyncio.Semaphore(AT_ONCE)

    async def run_in_turn(program: Program) -> Ended:
        async with free:
            return await _run(program, provider, env)

    return await asyncio.gather(*map(run_in_turn, programs))


async def _run(program: Program, provider: str, env: Mapping[str, str]) -> Ended:
    with tempfile.TemporaryDirectory() as directory:
        _write_requests(directory)
        command = [part.replace("{provider}", provider).replace("{directory}", directory) for part in program.command]
        return await _run_there(program, command, env)


def _write_requests(directory: str) -> None:
    Path(directory, "requests.jsonl").write_text(json.dumps(REQUEST))


async def _run_there(program: Program, command: Sequence[str], env: Mapping[str, str]) -> Ended:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, env={**env, **program.env}, stdout=PIPE, stderr=PIPE
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            await program.ends(process)
            printed = b"".join(await process.communicate()).decode(errors="replace")
    except TimeoutError:
        process.kill()
        printed = "it did not end\n" + b"".join(await process.communicate()).decode(errors="replace")
    died = process.returncode != program.status or any(word in printed for word in _DEATHS)
    return Ended(program.name, program.status, process.returncode or 0, printed[-2000:] if died else "")


@asynccontextmanager
async def stage(address: str, task_queue: str) -> AsyncIterator[tuple[str, dict[str, str]]]:
    """A provider, a worker and two calls; yields the provider's address and the environment of the programs."""
    port = free_port()
    provider = f"http://127.0.0.1:{port}/v1"
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("TEMPORAL_", "DURABLE_LLM_"))}
    env = {
        **ours, "TEMPORAL_ADDRESS": address, "TEMPORAL_CONFIG_FILE": os.devnull, "DURABLE_LLM_TASK_QUEUE": task_queue,
        "DURABLE_LLM_API_BASE_HOSTS": "127.0.0.1", "PYTHONUNBUFFERED": "1",
    }  # fmt: skip
    async with AsyncExitStack() as stack:
        for name, command in (("the provider", ["benchmarks.provider", str(port)]), ("the worker", ["workers"])):
            child = await Child.start(name, [sys.executable, "-m", *command], env=dict(env))
            stack.push_async_callback(child.stop)
        client = await Client.connect(address, data_converter=pydantic_data_converter)
        async with Dispatcher(client, task_queue=task_queue) as dispatcher:
            await dispatcher.call(ModelSpec(name=MODEL, api_base=provider), QUESTION, call_id=ANSWERED)
        async with Dispatcher(client, task_queue=NOBODYS_QUEUE) as nobody:
            await nobody.submit(MODEL, QUESTION, call_id=WAITING)
        yield provider, env


async def main(runs: int, workers: int) -> int:
    """Run, print and write the figures; 0 when every run ended as it should."""
    # A shell's background job has Ctrl-C ignored, and so would its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    programs = chain(
        turns(COMMAND_LINE, runs), turns(LEAVING, runs), turns(WORKING, workers), turns(REFUSING, workers // 5)
    )
    async with (
        DevServer(ServerOptions(port=0, ui_port=None, data=None)) as server,
        stage(server.address, "exits") as (provider, env),
    ):
        ended = await run_all(list(programs), provider, env)
    return report(ended)


def report(ended: Sequence[Ended]) -> int:
    """Print a line for each program; write what ended otherwise than it should."""
    runs, right = Counter(run.program for run in ended), Counter(run.program for run in ended if run.right)
    statuses = {run.program: run.wanted for run in ended}
    table = Table("program", "status", "runs", "right")
    for name, count in runs.items():
        table.add_row(name, str(statuses[name]), str(count), str(right[name]))
    Console().print(table)
    wrong = [run for run in ended if not run.right]
    for run in wrong:
        print(f"{run.program}: status {run.status} instead of {run.wanted}\n{run.said}")
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps({
        "runs": dict(runs), "right": dict(right), "wrong": [vars(run) for run in wrong],
    }, indent=1))  # fmt: skip
    return 1 if wrong else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run every program of ours again and again, and check how it leaves.")
    parser.add_argument("--runs", type=int, default=RUNS, help="runs of the command line and of the job")
    parser.add_argument("--workers", type=int, default=WORKERS, help="runs of the worker")
    options = parser.parse_args()
    status = asyncio.run(main(options.runs, options.workers))
    sys.stdout.flush()
    os._exit(status)
