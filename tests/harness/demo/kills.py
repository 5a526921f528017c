"""Which process is killed, and when."""

import asyncio
from typing import Final

from tests.harness.demo.processes import Processes
from tests.harness.parts.processes import success, while_alive
from tests.harness.parts.provider import Provider

LIMIT_S: Final = 150.0
"""Seconds after which a run is given up."""

_HELD_S: Final = 1.0
"""Seconds from the arrival of the request that is held to the kill, so that other calls meet their failures, too."""


async def run_job_with_kills(processes: Processes) -> None:
    """Run the job to its end, and kill the worker and the job once each.

    Raises:
        StackError: a part ended by itself, or the run took longer than LIMIT_S.
    """
    async with processes.within(LIMIT_S):
        worker = await processes.start_worker()
        job = await processes.start_job()
        await while_alive(_request_held(processes.openai), worker, job)
        await processes.kill("worker", worker)
        worker = await processes.start_worker()
        await while_alive(_request_held(processes.anthropic), worker, job)
        await processes.kill("job", job)
        processes.say("the job starts again with the same ids: what is answered stays answered, what runs goes on")
        job = await processes.start_job()
        await while_alive(success(job), worker)


async def _request_held(provider: Provider) -> None:
    """Wait until the request has arrived that the script lets `provider` hold, and a little longer.

    Its delay is then no longer pending.
    """
    while any(behavior["type"] == "delay" for behavior in await provider.pending()):  # llmock must be asked
        await asyncio.sleep(0.1)
    await asyncio.sleep(_HELD_S)
