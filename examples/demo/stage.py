"""The parts of the demo and how each is started, so that none is left behind whatever happens."""

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, Self

from temporalio.client import Client

from durable_llm import Dispatcher, data_converter
from examples.demo import script
from examples.demo.checker import Verdict
from examples.demo.evidence import Kill
from examples.demo.provider import Provider
from workers.children import Child, StackError
from workers.dev import WORKER_READY
from workers.dev_server import DevServer, ServerOptions

_WORKER_ENV: Final = {
    "DURABLE_LLM_API_BASE_HOSTS": "127.0.0.1",
    "DURABLE_LLM_HEARTBEAT_TIMEOUT_S": "4",  # a killed worker is noticed after so long
    "DURABLE_LLM_HEARTBEAT_INTERVAL_S": "1",
}


class Stage:
    """All parts of one run while the context lasts.

    Attributes:
        run: The run's name.
        folder: Where the run's files are: the worker's log, the job's report, the kills and the verdict.
        say: Tells the audience what happens.
        dispatcher: For looking at the calls.
        openai, anthropic: The simulated providers.
    """

    dispatcher: Dispatcher

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.run = time.strftime("%H%M%S")
        self.folder = folder
        self.say = say
        self.openai = Provider(script.OPENAI, context_window=script.CONTEXT_WINDOW)
        self.anthropic = Provider(script.ANTHROPIC)
        self._server = DevServer(ServerOptions(port=0, ui_port=0, data=None))
        self._parts = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("kills.jsonl", "verdict.json", "report.json", "worker.log"):
            (self.folder / name).unlink(missing_ok=True)
        try:
            await self._raise_curtain()
        except BaseException:
            await self._parts.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._parts.aclose()

    @property
    def ui_url(self) -> str:
        """Address of Temporal's UI."""
        return self._server.ui_url or ""

    async def start_worker(self) -> Child:
        """Start a worker and wait until it polls.

        Raises:
            StackError: it ended instead; its last lines say why.
        """
        ready = asyncio.Event()
        log = self._parts.enter_context((self.folder / "worker.log").open("a"))

        def on_line(line: str) -> None:
            print(line, file=log, flush=True)
            if line.startswith(WORKER_READY):
                ready.set()

        env = {**self._server.env, **_WORKER_ENV}
        worker = await Child.start("the worker", [sys.executable, "-m", "workers"], env=env, on_line=on_line)
        self._parts.push_async_callback(worker.stop, 5.0)
        self.say(f"worker (pid {worker.pid}) starts")
        await while_alive(ready.wait(), worker)
        self.say(f"worker (pid {worker.pid}) is ready")
        return worker

    async def start_job(self) -> Child:
        """Start the job; its lines are told as they come."""
        addresses = ["--openai", self.openai.api_base, "--anthropic", self.anthropic.api_base]
        job = await Child.start(
            "the job", self._program("job", *addresses, "--out", str(self.folder / "report.json")),
            env=self._server.env, on_line=lambda line: self.say(f"job: {line}"),
        )  # fmt: skip
        self._parts.push_async_callback(job.stop, 2.0)
        self.say(f"job (pid {job.pid}) starts")
        return job

    async def check(self, kills: list[Kill]) -> Verdict:
        """Let the checker, a process of its own, recount the run.

        Raises:
            StackError: it ended without a verdict.
        """
        notes, out = self.folder / "kills.jsonl", self.folder / "verdict.json"
        notes.write_text("".join(f"{kill.model_dump_json()}\n" for kill in kills))
        providers = [argument for root in (self.openai.root, self.anthropic.root) for argument in ("--provider", root)]
        command = self._program("checker", *providers, "--kills", str(notes), "--out", str(out))
        checker = await Child.start("the checker", command, env=self._server.env)
        self._parts.push_async_callback(checker.stop, 2.0)
        code = await checker.wait()
        if not out.exists():
            raise StackError(f"the checker ended with exit code {code} and no verdict:\n{checker.last_lines}")
        verdict = Verdict.model_validate_json(out.read_text())
        return verdict.model_copy(update={"passed": verdict.passed and code == 0})

    def _program(self, name: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", f"examples.demo.{name}", "--run", self.run, *arguments]

    async def _raise_curtain(self) -> None:
        self.say("starting Temporal and two simulated providers")
        for part in (self._server, self.openai, self.anthropic):
            await self._parts.enter_async_context(part)
        for provider in (self.openai, self.anthropic):
            await provider.ready()
            await provider.script(script.scenario(provider.name))
        client = await Client.connect(self._server.env["TEMPORAL_ADDRESS"] or "", data_converter=data_converter())
        self.dispatcher = await self._parts.enter_async_context(Dispatcher(client))


async def while_alive(work: Coroutine[Any, Any, Any], *children: Child) -> None:
    """Await `work`, unless one of `children` ends first.

    Raises:
        StackError: one of them ended; its last lines say why.
    """
    working = asyncio.create_task(work)
    watches = {asyncio.create_task(child.wait()): child for child in children}
    try:
        await asyncio.wait([working, *watches], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()  # what it raised
            return
        for watch, child in watches.items():
            if watch.done():
                raise StackError(f"{child.name} ended with exit code {watch.result()}:\n{child.last_lines}")
    finally:
        for task in (working, *watches):
            task.cancel()
