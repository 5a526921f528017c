"""End a worker whose event loop no longer turns, so that a supervisor starts it again.

Such a worker sends no heartbeat and does not react to SIGTERM. Two watches see two kinds of hang: a thread notices a
loop that is blocked, and a timer of the kernel notices code that keeps Python's lock, where no thread runs. A worker
that was only stopped for a while (SIGSTOP, a paused container) goes on.
"""

import asyncio
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def watching_the_loop(limit_s: float) -> AsyncIterator[None]:
    """While the block runs, end this process if the event loop has not turned for `limit_s` seconds.

    The stack of every thread is printed to stderr before. The status is 1, or that of SIGPROF.
    """
    turned, stop = threading.Event(), threading.Event()
    watching = asyncio.create_task(_turn(limit_s, turned))
    threading.Thread(target=_watch, args=(limit_s, turned, stop), name="watchdog", daemon=True).start()
    faulthandler.register(signal.SIGPROF, all_threads=True, chain=True)
    try:
        yield
    finally:
        watching.cancel()
        stop.set()
        signal.setitimer(signal.ITIMER_PROF, 0)
        faulthandler.unregister(signal.SIGPROF)


async def _turn(limit_s: float, turned: threading.Event) -> None:
    while True:
        turned.set()
        signal.setitimer(signal.ITIMER_PROF, limit_s)  # counts the CPU time of this process
        await asyncio.sleep(limit_s / 20)


def _watch(limit_s: float, turned: threading.Event, stop: threading.Event) -> None:
    missed = 0
    while not stop.wait(limit_s / 10):  # steps, not a clock: a process that was stopped has missed one
        missed = 0 if turned.is_set() else missed + 1
        turned.clear()
        if missed >= 10:
            faulthandler.dump_traceback(all_threads=True)
            print(f"the event loop has not turned for {limit_s:g} s; the worker ends", file=sys.stderr, flush=True)
            os._exit(1)
