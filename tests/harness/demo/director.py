"""The choreography: who is killed, and when."""

import asyncio
from typing import Final

from tests.harness.demo.stage import Stage
from tests.harness.parts.provider import Provider
from tests.harness.parts.stage import success, while_alive

LIMIT_S: Final = 150.0
"""Seconds after which a run is given up."""

_SUSPENSE_S: Final = 1.0
"""Seconds between the arrival of the request that is held and the blow, for other calls to get into their troubles."""


async def play(stage: Stage) -> None:
    """Play one run to the job's end.

    Raises:
        StackError: a part ended by itself, or the run took longer than LIMIT_S.
    """
    async with stage.within(LIMIT_S):
        worker = await stage.start_worker()
        job = await stage.cast_job()
        await while_alive(_request_held(stage.openai), worker, job)
        await stage.kill("worker", worker)
        worker = await stage.start_worker()
        await while_alive(_request_held(stage.anthropic), worker, job)
        await stage.kill("job", job)
        stage.say("the job starts again with the same ids: what is answered stays answered, what runs goes on")
        job = await stage.cast_job()
        await while_alive(success(job), worker)


async def _request_held(provider: Provider) -> None:
    """Wait until the request has arrived that the script lets `provider` hold, and a little longer.

    Its delay is then no longer pending.
    """
    while any(behavior["type"] == "delay" for behavior in await provider.pending()):  # llmock must be asked
        await asyncio.sleep(0.1)
    await asyncio.sleep(_SUSPENSE_S)
