"""Options of the connection to Temporal, beside the TEMPORAL_* variables."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

import typer
from temporalio.client import Client

from durable_llm.cli.parse import duration
from durable_llm.client.connection import check_namespace, connect_client
from durable_llm.client.dispatcher import Connecting, Dispatcher
from durable_llm.contract.names import TASK_QUEUE

_PANEL = "Temporal"


TaskQueue = Annotated[
    str,
    typer.Option(
        help="Task queue that the workers poll.",
        envvar="DURABLE_LLM_TASK_QUEUE",
        metavar="NAME",
        rich_help_panel=_PANEL,
    ),
]


@dataclass(frozen=True, kw_only=True)
class TemporalOptions:
    """The Temporal server and namespace."""

    profile: Annotated[
        str | None,
        typer.Option(help="Profile of Temporal's configuration file.", metavar="NAME", rich_help_panel=_PANEL),
    ] = None
    connect_wait: Annotated[
        str, typer.Option(help="How long to try to reach Temporal.", metavar="DURATION", rich_help_panel=_PANEL)
    ] = "10s"

    @property
    def connect_limit(self) -> timedelta:
        """How long to try to reach Temporal."""
        return duration("--connect-wait", self.connect_wait)

    async def client(self, *, want_search_attributes: bool = False) -> Client:
        """A client whose namespace exists and, if wanted, has our search attributes."""
        client = await connect_client(wait=self.connect_limit, profile=self.profile)
        await check_namespace(client, want_search_attributes=want_search_attributes, wait=self.connect_limit)
        return client

    def dispatcher(self, *, task_queue: str = TASK_QUEUE, search_attributes: bool = False) -> Connecting:
        """A dispatcher for existing calls. It needs a task queue only for what its calls share.

        Args:
            task_queue: The calls' queue.
            search_attributes: Whether calls are filtered by them.
        """
        return Dispatcher.connect(
            task_queue=task_queue,
            wait=self.connect_limit,
            profile=self.profile,
            search_attributes=search_attributes,
        )


@dataclass(frozen=True, kw_only=True)
class QueueOptions:
    """Where a new call goes."""

    task_queue: TaskQueue = TASK_QUEUE
    search_attributes: Annotated[
        bool,
        typer.Option(
            " /--no-search-attributes",
            help="Set no search attributes, in a namespace that cannot have them.",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = True

    def dispatcher(self, temporal: TemporalOptions) -> Connecting:
        """A dispatcher for new calls."""
        return Dispatcher.connect(
            task_queue=self.task_queue,
            wait=temporal.connect_limit,
            profile=temporal.profile,
            search_attributes=self.search_attributes,
        )
