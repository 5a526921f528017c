"""Kills one process after the other while the job runs, of the workers the busiest, and starts each again."""

import asyncio
from typing import NoReturn

from tests.harness.chaos.job import PROGRESS
from tests.harness.chaos.processes import Processes
from tests.harness.chaos.size import Target
from tests.harness.parts.processes import success
from workers.dev.children import Child, StackError

_POLL_S = 0.1


class KillSchedule:
    """Runs the job while processes are killed."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._ready: list[Child] = []
        self._job: Child

    async def run(self) -> None:
        """Run the job to its end.

        Raises:
            StackError: a part ended by itself, or the run took too long.
        """
        size = self._processes.size
        async with self._processes.within(size.limit_s):
            keepers = [asyncio.create_task(self._keep_worker()) for _ in range(size.workers)]
            running = asyncio.create_task(self._run())
            try:
                done, _ = await asyncio.wait([running, *keepers], return_when=asyncio.FIRST_COMPLETED)
                done.pop().result()
            finally:
                for task in (running, *keepers):
                    task.cancel()

    async def _run(self) -> None:
        await self._another_ready()
        self._job = await self._processes.start_job()
        for target in self._processes.size.targets:
            await self._under_way()
            await self._pause()
            if self._job.returncode is not None:
                break
            await self._kill(target)
        await success(self._job)

    async def _under_way(self) -> None:
        """Wait until the job has printed that calls have ended, or has ended itself."""
        while self._job.returncode is None and PROGRESS not in self._job.last_lines:  # it is another process
            await asyncio.sleep(_POLL_S)

    async def _pause(self) -> None:
        """Let the calls go on for a while, or until the job ends."""
        try:
            async with asyncio.timeout(self._processes.size.pause_s):
                await self._job.wait()
        except TimeoutError:
            return

    async def _another_ready(self) -> None:
        """Wait until a worker can be killed while another goes on."""
        while len(self._ready) < 2:  # workers come and go at any moment
            await asyncio.sleep(_POLL_S)

    async def _kill(self, target: Target) -> None:
        match target:
            case "worker":
                await self._another_ready()
                self._ready.remove(busiest := await self._busiest())
                await self._processes.kill("worker", busiest)
            case "server":
                await self._processes.kill_server()
            case "job":
                await self._processes.kill("job", self._job)
                self._job = await self._processes.start_job()

    async def _busiest(self) -> Child:
        """The worker with the most attempts, as soon as there is any; without a job, any worker."""
        while True:
            attempts = await self._processes.attempts_by_worker()
            busiest = max(self._ready, key=lambda worker: attempts[worker.pid])
            if attempts[busiest.pid] or self._job.returncode is not None:
                return busiest
            await asyncio.sleep(_POLL_S)

    async def _keep_worker(self) -> NoReturn:
        """Keep one worker running, and start another when it was killed.

        Raises:
            StackError: it ended by itself.
        """
        while True:
            worker = await self._processes.start_worker()
            self._ready.append(worker)
            code = await worker.wait()
            if worker in self._ready:
                raise StackError(f"{worker.name} (pid {worker.pid}) ended by itself, code {code}:\n{worker.last_lines}")
