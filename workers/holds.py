"""What operators hold, looked up again and again for one worker's attempts."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from durable_llm.background import running
from durable_llm.client.holds import find_holds
from durable_llm.contract.holds import Hold

logger = logging.getLogger("durable_llm.worker")

LOOK_EVERY_S: Final = 2.0


@asynccontextmanager
async def following_holds(
    client: Client, task_queue: str, tell: Callable[[Sequence[Hold]], None]
) -> AsyncIterator[None]:
    """Tell of the holds of a task queue while the context lasts, for the first time before it begins.

    Args:
        client: The worker's client.
        task_queue: The calls' task queue.
        tell: Is told all holds every two seconds.
    """
    if not await _look(client, task_queue, tell):  # a server without a list, as in tests, has no holds
        yield
        return
    async with running(_look_again(client, task_queue, tell)):
        yield


async def _look_again(client: Client, task_queue: str, tell: Callable[[Sequence[Hold]], None]) -> None:
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        await _look(client, task_queue, tell)


async def _look(client: Client, task_queue: str, tell: Callable[[Sequence[Hold]], None]) -> bool:
    try:
        tell(await find_holds(client, task_queue))
    except RPCError as error:
        if error.status is RPCStatusCode.UNIMPLEMENTED:
            return False
        logger.warning("holds cannot be looked up: %s; those that are known stay", error.message)
    return True
