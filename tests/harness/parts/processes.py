"""A run's processes: each is started here and stopped at the run's end, whatever happens."""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeVar

from tests.harness.parts.evidence import Kill
from tests.harness.parts.rules import Verdict
from workers.dev.children import Child, StackError
from workers.dev.server import DevServer
from workers.dev.stack import WORKER_READY

_KILLS: Final = "kills.jsonl"
_VERDICT: Final = "verdict.json"
_WORKER_LOG: Final = "worker.log"

AVerdict = TypeVar("AVerdict", bound=Verdict)


class Processes:
    """All processes of one run while the context lasts. A subclass starts its own in `_start_all`.

    Attributes:
        programs: The package with the job and the checker.
        run: The run's name.
        folder: Where the run's files are: the worker's log, the job's report, the kills and the verdict.
        say: Prints a line of the log.
        kills: Every SIGKILL and its time.
    """

    programs: str

    def __init__(
        self, folder: Path, say: Callable[[str], None], server: DevServer, worker_env: Mapping[str, str]
    ) -> None:
        self.run = time.strftime("%H%M%S")
        self.folder = folder
        self.say = say
        self.kills: list[Kill] = []
        self._server = server
        self._worker_env = worker_env
        self._parts = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in (_KILLS, _VERDICT, _WORKER_LOG, "report.json"):
            (self.folder / name).unlink(missing_ok=True)
        try:
            await self._start_all()
        except BaseException:
            await self._parts.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._parts.aclose()

    async def _start_all(self) -> None:
        raise NotImplementedError

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
        log = self._parts.enter_context((self.folder / _WORKER_LOG).open("a"))

        def on_line(line: str) -> None:
            print(line, file=log, flush=True)
            if line.startswith(WORKER_READY):
                ready.set()

        env = {**self._server.env, **self._worker_env}
        worker = await Child.start("the worker", [sys.executable, "-m", "workers"], env=env, on_line=on_line)
        self._parts.push_async_callback(worker.stop, 5.0)
        self.say(f"worker (pid {worker.pid}) starts")
        await while_alive(ready.wait(), worker)
        self.say(f"worker (pid {worker.pid}) is ready")
        return worker

    async def _start_job(self, *arguments: str) -> Child:
        """Start the job; its lines go to the log."""
        job = await Child.start(
            "the job", self._program("job", *arguments, "--out", str(self.folder / "report.json")),
            env=self._server.env, on_line=lambda line: self.say(f"job: {line}"),
        )  # fmt: skip
        self._parts.push_async_callback(job.stop, 2.0)
        self.say(f"job (pid {job.pid}) starts")
        return job

    async def kill(self, what: Literal["worker", "job", "server"], child: Child) -> Kill:
        """Kill with SIGKILL and keep the time."""
        self.kills.append(kill := Kill(what=what, pid=child.pid, at=time.time()))
        child.signal(signal.SIGKILL)
        await child.wait()
        self.say(f"{what} (pid {child.pid}) is killed with SIGKILL")
        return kill

    async def check(self, kind: type[AVerdict], *arguments: str) -> AVerdict:
        """Run the checker, a process of its own.

        Raises:
            StackError: it ended without a verdict.
        """
        kills, out = self.folder / _KILLS, self.folder / _VERDICT
        kills.write_text("".join(f"{kill.model_dump_json()}\n" for kill in self.kills))
        command = self._program("checker", *arguments, "--kills", str(kills), "--out", str(out))
        checker = await Child.start("the checker", command, env=self._server.env)
        self._parts.push_async_callback(checker.stop, 2.0)
        code = await checker.wait()
        if not out.exists():
            raise StackError(f"the checker ended with exit code {code} and no verdict:\n{checker.last_lines}")
        verdict = kind.model_validate_json(out.read_text())
        return verdict.model_copy(update={"passed": verdict.passed and code == 0})

    @asynccontextmanager
    async def within(self, limit_s: float) -> AsyncIterator[None]:
        """Bound a run.

        Raises:
            StackError: it took longer.
        """
        try:
            async with asyncio.timeout(limit_s):
                yield
        except TimeoutError:
            text = f"the run has not ended within {limit_s:g} s; see {self.folder / _WORKER_LOG}"
            raise StackError(text) from None

    def _program(self, name: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", f"{self.programs}.{name}", "--run", self.run, *arguments]


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


async def success(job: Child) -> None:
    """Wait until the job has ended with exit code 0.

    Raises:
        StackError: it ended with another.
    """
    if code := await job.wait():
        raise StackError(f"the job ended with exit code {code}:\n{job.last_lines}")
