"""Kills: one victim after the other while the job runs, of the workers the busiest, and every one is replaced."""

import asyncio
from typing import NoReturn

from tests.harness.chaos.job import TELLS
from tests.harness.chaos.size import Victim
from tests.harness.chaos.stage import Stage
from tests.harness.parts.stage import success
from workers.dev.children import Child, StackError

_POLL_S = 0.1


class Director:
    """Plays one run on a stage."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._ready: list[Child] = []
        self._job: Child

    async def play(self) -> None:
        """Play the run to the job's end.

        Raises:
            StackError: a part ended by itself, or the run took too long.
        """
        size = self._stage.size
        async with self._stage.within(size.limit_s):
            keepers = [asyncio.create_task(self._keep_worker()) for _ in range(size.workers)]
            playing = asyncio.create_task(self._play())
            try:
                done, _ = await asyncio.wait([playing, *keepers], return_when=asyncio.FIRST_COMPLETED)
                done.pop().result()
            finally:
                for task in (playing, *keepers):
                    task.cancel()

    async def _play(self) -> None:
        await self._another_ready()
        self._job = await self._stage.cast_job()
        for victim in self._stage.size.victims:
            await self._under_way()
            await self._pause()
            if self._job.returncode is not None:
                break
            await self._kill(victim)
        await success(self._job)

    async def _under_way(self) -> None:
        """Wait until the job has told that calls have ended, or has ended itself."""
        while self._job.returncode is None and TELLS not in self._job.last_lines:  # it is a process
            await asyncio.sleep(_POLL_S)

    async def _pause(self) -> None:
        """Let the calls get under way again; the job's end cuts it short."""
        try:
            async with asyncio.timeout(self._stage.size.pause_s):
                await self._job.wait()
        except TimeoutError:
            return

    async def _another_ready(self) -> None:
        """Wait until one worker can die and another goes on."""
        while len(self._ready) < 2:  # workers come and go at any moment
            await asyncio.sleep(_POLL_S)

    async def _kill(self, victim: Victim) -> None:
        match victim:
            case "worker":
                await self._another_ready()
                self._ready.remove(busiest := await self._busiest())
                await self._stage.kill("worker", busiest)
            case "server":
                await self._stage.kill_server()
            case "job":
                await self._stage.kill("job", self._job)
                self._job = await self._stage.cast_job()

    async def _busiest(self) -> Child:
        """The worker with the most attempts, as soon as there is any; without a job, any worker."""
        while True:
            attempts = await self._stage.attempts_by_worker()
            busiest = max(self._ready, key=lambda worker: attempts[worker.pid])
            if attempts[busiest.pid] or self._job.returncode is not None:
                return busiest
            await asyncio.sleep(_POLL_S)

    async def _keep_worker(self) -> NoReturn:
        """Have a worker, and a new one when it was killed.

        Raises:
            StackError: it ended by itself.
        """
        while True:
            worker = await self._stage.start_worker()
            self._ready.append(worker)
            code = await worker.wait()
            if worker in self._ready:
                raise StackError(f"{worker.name} (pid {worker.pid}) ended by itself, code {code}:\n{worker.last_lines}")
