"""A caller that is told on stdin how often to call, and how many at a time. It needs nothing but Python."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable


async def serve(call: Callable[[], Awaitable[object]]) -> None:
    """Answer {"callers": ..., "calls": ...} with {"wall_s": ..., "times_s": [...]}, line by line, until stdin ends."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as replies:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries print, too
        print("ready", file=replies, flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = json.loads(line)
            print(json.dumps(await measure(call, order["callers"], order["calls"])), file=replies, flush=True)


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
