"""The commands around a namespace: `setup` makes it ready, `version` says what is installed here."""

from datetime import timedelta
from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration
from temporalio.api.namespace.v1 import NamespaceConfig
from temporalio.api.workflowservice.v1 import UpdateNamespaceRequest
from temporalio.client import Client

from durable_llm import __version__
from durable_llm.cli.output import Output
from durable_llm.cli.server import Server
from durable_llm.client.connection import Rpcs
from durable_llm.contract import search_attributes


async def setup(
    server: Server,
    output: Output,
    retention: Annotated[
        int | None,
        typer.Option(min=1, metavar="DAYS", help="Also set for how many days Temporal keeps calls that have ended."),
    ] = None,
) -> None:
    """Register the search attributes in the namespace that TEMPORAL_* names; harmless to repeat."""
    client = await server.client()
    absent = await Rpcs(client).run(_prepare(client, retention), wait=server.patience)
    done = f"registered {', '.join(absent)}" if absent else "all search attributes were there"
    kept = f"; keeps ended calls for {retention} days" if retention is not None else ""
    output.give(
        {"namespace": client.namespace, "registered": absent, "retention_days": retention},
        f"namespace {client.namespace!r}: {done}{kept}",
    )


async def _prepare(client: Client, retention: int | None) -> list[str]:
    """Do what is missing; the names of the search attributes that were."""
    absent = await search_attributes.missing(client)
    if absent:
        await search_attributes.register(client)
    if retention is not None:
        kept = Duration()
        kept.FromTimedelta(timedelta(days=retention))
        await client.workflow_service.update_namespace(
            UpdateNamespaceRequest(
                namespace=client.namespace, config=NamespaceConfig(workflow_execution_retention_ttl=kept)
            )
        )
    return absent


def version(output: Output) -> None:
    """Print the version."""
    output.give({"version": __version__}, __version__)
