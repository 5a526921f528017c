"""A caller that is told on stdin how often to call, and how many at a time. It needs nothing but Python."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable

PARAMETERS: dict[str, object] = json.loads(os.environ.get("BENCH_PARAMETERS", "{}"))
"""Parameters of each request."""


async def serve(call: Callable[[], Awaitable[object]]) -> None:
    """Answer {"callers": ..., "calls": ...} with {"wall_s": ..., "times_s": [...]}, line by line, until stdin ends.

    {"at_once": ...} is answered with {"wall_s": ..., "lost": ...}.
    """
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as replies:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries print, too
        print("ready", file=replies, flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = json.loads(line)
            if "at_once" in order:
                measured = await burst(call, order["at_once"])
            else:
                measured = await measure(call, order["callers"], order["calls"])
            print(json.dumps(measured), file=replies, flush=True)


async def measure(call: Callable[[], Awaitable[object]], callers: int, calls: int) -> dict[str, object]:
    """Make `calls` calls, `callers` at a time, and return the seconds of each and of all."""
    times: list[float] = []
    left = iter(range(calls))

    async def caller() -> None:
        for _ in left:
            began = time.perf_counter()
            await call()
            times.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return {"wall_s": time.perf_counter() - began, "times_s": times}


async def burst(call: Callable[[], Awaitable[object]], calls: int) -> dict[str, object]:
    """Make all calls at once, and count those that raise."""
    began = time.perf_counter()
    ended = await asyncio.gather(*(call() for _ in range(calls)), return_exceptions=True)
    lost = sum(isinstance(each, Exception) for each in ended)
    return {"wall_s": time.perf_counter() - began, "lost": lost}
