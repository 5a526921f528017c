"""Where recorded histories come from: exported files, or the server.

One history that cannot be read does not end a report over a thousand calls: a text that says so takes its place.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from temporalio.client import Client, WorkflowHistory
from temporalio.converter import DataConverter
from temporalio.service import RPCError, RPCStatusCode

from durable_llm.client.connection import connect_client, translate
from durable_llm.contract.names import WORKFLOW
from durable_llm.encryption.codec import data_converter

AT_ONCE: Final = 10
"""How many histories are fetched at the same time."""

_CONNECT_WAIT: Final = timedelta(seconds=10)

Histories = AsyncIterator[WorkflowHistory | str]
"""Histories; a text stands for one that could not be read."""


async def chosen(paths: Sequence[Path], query: str | None, limit: int) -> tuple[Histories, DataConverter]:
    """The histories in `paths`, or if there are no paths those of the server, and the converter that decodes them.

    Raises:
        DurableLLMError: no server; while iterating, that it refused the query or went away.
    """
    if paths:
        return from_files(paths), data_converter()
    client = await connect_client(wait=_CONNECT_WAIT)
    return from_server(client, query, limit), client.data_converter


async def from_files(paths: Sequence[Path]) -> Histories:
    """The histories in these files, and in the JSON files of these directories."""
    for path in paths:
        for file in sorted(path.rglob("*.json")) if path.is_dir() else [path]:
            try:
                yield WorkflowHistory.from_json(file.stem, file.read_text())
            except Exception as error:  # no file, no JSON, or JSON that protobuf cannot read as a history
                yield f"{file}: no history: {type(error).__name__}"


async def from_server(client: Client, query: str | None, limit: int) -> Histories:
    """The histories of the newest calls that `query` finds.

    Raises:
        DurableLLMError: the server refused the query or went away.
    """
    asked = f"WorkflowType = '{WORKFLOW}'" + (f" AND ({query})" if query else "")
    try:
        listed = [(call.id, call.run_id) async for call in client.list_workflows(asked, limit=limit)]
        for begin in range(0, len(listed), AT_ONCE):
            for history in await asyncio.gather(*(_fetched(client, *ids) for ids in listed[begin : begin + AT_ONCE])):
                yield history
    except RPCError as error:
        raise translate(error, client) from error


async def _fetched(client: Client, call_id: str, run_id: str) -> WorkflowHistory | str:
    try:
        return await client.get_workflow_handle(call_id, run_id=run_id).fetch_history()
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
        return f"{call_id}: its history is gone"  # retention passed between the list and this
