"""Which Temporal server to talk to, beyond what the TEMPORAL_* environment says, and for how long to try."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

import typer
from temporalio.client import Client

from durable_llm.cli.values import duration
from durable_llm.client.connection import check_namespace, connect_client
from durable_llm.client.dispatcher import Connecting, Dispatcher
from durable_llm.contract.names import TASK_QUEUE

_PANEL = "Temporal"


@dataclass(frozen=True, kw_only=True)
class Server:
    """The Temporal server and namespace."""

    profile: Annotated[
        str | None,
        typer.Option(help="Profile of Temporal's configuration file.", metavar="NAME", rich_help_panel=_PANEL),
    ] = None
    connect_wait: Annotated[
        str, typer.Option(help="How long to try to reach Temporal.", metavar="DURATION", rich_help_panel=_PANEL)
    ] = "10s"

    @property
    def patience(self) -> timedelta:
        """How long to try."""
        return duration("--connect-wait", self.connect_wait)

    async def client(self, *, want_search_attributes: bool = False) -> Client:
        """A client whose namespace exists and, if wanted, has our search attributes."""
        client = await connect_client(wait=self.patience, profile=self.profile)
        await check_namespace(client, want_search_attributes=want_search_attributes, wait=self.patience)
        return client

    def dispatcher(self) -> Connecting:
        """A dispatcher to look at calls with, which needs neither the workers' queue nor the search attributes."""
        return Dispatcher.connect(wait=self.patience, profile=self.profile, search_attributes=False)


@dataclass(frozen=True, kw_only=True)
class Submitting:
    """What a new call needs of the server and its workers."""

    task_queue: Annotated[
        str,
        typer.Option(
            help="Queue that the workers poll.", envvar="DURABLE_LLM_TASK_QUEUE", metavar="NAME", rich_help_panel=_PANEL
        ),
    ] = TASK_QUEUE
    search_attributes: Annotated[
        bool,
        typer.Option(
            " /--no-search-attributes",
            help="Do without search attributes, in a namespace that cannot have them.",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = True

    def dispatcher(self, server: Server) -> Connecting:
        """A dispatcher that may submit."""
        return Dispatcher.connect(
            task_queue=self.task_queue,
            wait=server.patience,
            profile=server.profile,
            search_attributes=self.search_attributes,
        )
