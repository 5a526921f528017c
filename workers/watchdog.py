"""End a worker whose event loop no longer turns, so that a supervisor starts it again.

Such a worker sends no heartbeat and does not react to SIGTERM. Python's own watchdog needs neither the event loop nor
Python's lock, which the code that hangs may hold.
"""

import asyncio
import faulthandler
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def watching_the_loop(limit_s: float) -> AsyncIterator[None]:
    """While the block runs, end this process with status 1 if the event loop has not turned for `limit_s` seconds.

    The stack of every thread is printed to stderr before.
    """
    watching = asyncio.create_task(_watch(limit_s))
    try:
        yield
    finally:
        watching.cancel()
        faulthandler.cancel_dump_traceback_later()


async def _watch(limit_s: float) -> None:
    while True:
        faulthandler.dump_traceback_later(limit_s, exit=True)
        await asyncio.sleep(min(1.0, limit_s / 4))
