"""The chaos run's processes: one simulated provider beside a Temporal server that can be killed."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from temporalio.client import Client

from tests.harness.chaos import script
from tests.harness.chaos.busy_workers import attempts_by_worker
from tests.harness.chaos.figures import ChaosVerdict
from tests.harness.chaos.server import RestartedServer
from tests.harness.chaos.size import Size
from tests.harness.parts import processes
from tests.harness.parts.provider import Provider
from workers.dev.children import Child


class Processes(processes.Processes):
    """All processes of one run while the context lasts.

    Attributes:
        size: How large the run is.
    """

    programs = "tests.harness.chaos"
    _client: Client

    def __init__(self, folder: Path, say: Callable[[str], None], size: Size) -> None:
        self._temporal = RestartedServer(folder / "temporal.db")
        settings = {
            "DURABLE_LLM_API_BASE_HOSTS": "127.0.0.1",
            "DURABLE_LLM_HEARTBEAT_TIMEOUT_S": str(size.heartbeat_timeout_s),
        }
        super().__init__(folder, say, self._temporal, settings)
        self.size = size
        self._provider = Provider("openai")

    async def start_job(self) -> Child:
        """Start the job."""
        return await self._start_job(
            "--calls", str(self.size.calls), "--at-once", str(self.size.at_once),
            "--openai", self._provider.base_of("openai"), "--anthropic", self._provider.base_of("anthropic"),
        )  # fmt: skip

    async def attempts_by_worker(self) -> Counter[int]:
        """How many attempts each worker makes now, by its process id."""
        return await attempts_by_worker(self._client)

    async def kill_server(self) -> None:
        """Kill the Temporal server and start it again on its file."""
        kill = await self.kill("server", self._temporal.child)
        await self._temporal.start_again()
        self.kills[-1] = kill.model_copy(update={"back_at": time.time()})
        self.say(f"server (pid {self._temporal.child.pid}) is back on its file")

    async def verify(self) -> ChaosVerdict:
        """The checker's verdict on the run."""
        return await self.check(
            ChaosVerdict, "--provider", self._provider.root, "--calls", str(self.size.calls),
            "--heartbeat-timeout", str(self.size.heartbeat_timeout_s), "--least-kills", str(self.size.least_kills),
        )  # fmt: skip

    async def _start_all(self) -> None:
        self.say("starting Temporal and a simulated provider")
        await self._parts.enter_async_context(self._temporal)
        await self._parts.enter_async_context(self._provider)
        await self._provider.ready()
        await self._provider.script(script.scenario(self.size.calls))
        self._client = await Client.connect(self._temporal.address)
