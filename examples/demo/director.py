"""The choreography: who is killed, and when."""

import asyncio
import signal
import time
from typing import Final, Literal

from examples.demo.evidence import Kill
from examples.demo.provider import Provider
from examples.demo.stage import Stage, while_alive
from workers.children import Child, StackError

LIMIT_S: Final = 150.0
"""Seconds after which a run is given up."""

_SUSPENSE_S: Final = 1.0
"""Seconds between the arrival of the request that is held and the blow, for other calls to get into their troubles."""


class Director:
    """Plays one run on a stage; notes each kill and its moment."""

    def __init__(self, stage: Stage) -> None:
        self.kills: list[Kill] = []
        self._stage = stage

    async def play(self) -> None:
        """Play the run to the job's end.

        Raises:
            StackError: a part ended by itself, or the run took longer than LIMIT_S.
        """
        try:
            async with asyncio.timeout(LIMIT_S):
                await self._play()
        except TimeoutError:
            raise StackError(
                f"the run has not ended within {LIMIT_S:g} s; see {self._stage.folder}/worker.log"
            ) from None

    async def _play(self) -> None:
        worker = await self._stage.start_worker()
        job = await self._stage.start_job()
        await while_alive(_request_held(self._stage.openai), worker, job)
        await self._kill("worker", worker)
        worker = await self._stage.start_worker()
        await while_alive(_request_held(self._stage.anthropic), worker, job)
        await self._kill("job", job)
        self._stage.say("the job starts again with the same ids: what is answered stays answered, what runs goes on")
        job = await self._stage.start_job()
        await while_alive(_success(job), worker)

    async def _kill(self, what: Literal["worker", "job"], child: Child) -> None:
        await asyncio.sleep(_SUSPENSE_S)
        self.kills.append(Kill(what=what, pid=child.pid, at=time.time()))
        child.signal(signal.SIGKILL)
        await child.wait()
        self._stage.say(f"{what} (pid {child.pid}) is killed with SIGKILL, while a request is open")


async def _request_held(provider: Provider) -> None:
    """Wait until the request has arrived that the script lets `provider` hold: its delay is then no longer pending."""
    while any(behavior["type"] == "delay" for behavior in await provider.pending()):  # noqa: ASYNC110  # llmock must be asked
        await asyncio.sleep(0.1)


async def _success(job: Child) -> None:
    if code := await job.wait():
        raise StackError(f"the job ended with exit code {code}:\n{job.last_lines}")
