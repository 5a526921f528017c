"""How many calls of a task queue have not ended, counted again and again for the worker's metrics."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from temporalio.client import Client
from temporalio.service import RPCError

from durable_llm.client.listing import CALLS, quoted
from durable_llm.contract import search_attributes
from durable_llm.contract.categories import UNFINISHED

logger = logging.getLogger("durable_llm.worker")

COUNT_EVERY_S: Final = 15.0


async def count_unfinished(client: Client, task_queue: str, set_count: Callable[[str, int], None]) -> None:
    """Count until cancelled.

    Args:
        client: The worker's client.
        task_queue: The calls' task queue.
        set_count: Is told how many calls have an outcome, for each that is no end.
    """
    unended = f"{CALLS} AND TaskQueue = {quoted(task_queue)} AND ExecutionStatus = 'Running'"
    while True:
        try:
            for outcome in sorted(UNFINISHED):
                query = f"{unended} AND {search_attributes.OUTCOME.name} = '{outcome}'"
                set_count(outcome, (await client.count_workflows(query)).count)
        except RPCError as error:
            logger.warning("calls cannot be counted: %s", error.message)
        await asyncio.sleep(COUNT_EVERY_S)
