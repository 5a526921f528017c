"""A worker that tells how late its event loop was: the 99th percentile in ms, on a line of its own at each SIGUSR1."""

import asyncio
import signal
import statistics
from datetime import timedelta
from typing import Final

from durable_llm.client.connection import connect_client
from workers.plugin import build_attempts
from workers.settings import load_settings
from workers.worker import build_worker

EVERY_S: Final = 0.01


async def main() -> None:
    """Work until killed."""
    settings = load_settings()
    client = await connect_client(wait=timedelta(seconds=30))
    late_ms: list[float] = []

    def tell() -> None:
        print(f"lag {statistics.quantiles(late_ms, n=100)[98]:.1f}", flush=True)
        late_ms.clear()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, tell)
    async with build_worker(client, settings, build_attempts(settings, {})):
        print("ready", flush=True)
        while True:
            due = loop.time() + EVERY_S
            await asyncio.sleep(EVERY_S)
            late_ms.append((loop.time() - due) * 1e3)


if __name__ == "__main__":
    asyncio.run(main())
