"""The demo's processes: two simulated providers beside Temporal, and a dispatcher that reads the calls."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from temporalio.client import Client

from durable_llm import Dispatcher, data_converter
from tests.harness.demo import script
from tests.harness.parts import processes
from tests.harness.parts.provider import Provider
from tests.harness.parts.rules import Verdict
from workers.dev.children import Child
from workers.dev.server import DevServer, ServerOptions

_WORKER_ENV: Final = {
    "DURABLE_LLM_API_BASE_HOSTS": "127.0.0.1",
    "DURABLE_LLM_HEARTBEAT_TIMEOUT_S": "4",  # a killed worker is noticed after so long
}


class Processes(processes.Processes):
    """All processes of one run while the context lasts.

    Attributes:
        dispatcher: Reads the calls.
        openai, anthropic: The simulated providers.
    """

    programs = "tests.harness.demo"
    dispatcher: Dispatcher

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        super().__init__(folder, say, DevServer(ServerOptions(port=0, ui_port=0, data=None)), _WORKER_ENV)
        self.openai = Provider(script.OPENAI, context_window=script.CONTEXT_WINDOW)
        self.anthropic = Provider(script.ANTHROPIC)

    async def start_job(self) -> Child:
        """Start the job with the providers' addresses."""
        return await self._start_job("--openai", self.openai.api_base, "--anthropic", self.anthropic.api_base)

    async def verify(self) -> Verdict:
        """The checker's verdict on the run."""
        return await self.check(Verdict, "--provider", self.openai.root, "--provider", self.anthropic.root)

    async def _start_all(self) -> None:
        self.say("starting Temporal and two simulated providers")
        for part in (self._server, self.openai, self.anthropic):
            await self._parts.enter_async_context(part)
        for provider in (self.openai, self.anthropic):
            await provider.ready()
            await provider.script(script.scenario(provider.name))
        client = await Client.connect(self._server.address, data_converter=data_converter())
        self.dispatcher = await self._parts.enter_async_context(Dispatcher(client))
