"""The commands for who did not make the call: `show`, `list`, `cancel`. None of them needs a worker."""

from typing import Annotated

import typer

from durable_llm.cli.asking import CallId
from durable_llm.cli.listing import Filters, find_calls
from durable_llm.cli.output import Output
from durable_llm.cli.server import Server
from durable_llm.cli.tables import call_view, calls_table
from durable_llm.client.connection import Rpcs


async def show(call_id: CallId, server: Server, output: Output) -> None:
    """Show where a call stands, and every attempt of it."""
    async with server.dispatcher() as dispatcher:
        handle = dispatcher.attach(call_id)
        status, attempts = await handle.status(), await handle.attempts()
    cost = sum(entry.cost for entry in attempts if entry.cost is not None)
    complete = len(attempts) >= status.attempts and all(entry.cost is not None for entry in attempts)
    totals = {"attempts": status.attempts, "total_cost": cost, "cost_complete": complete}
    output.give(
        {"call_id": call_id, "status": status, "attempts": attempts, "totals": totals},
        call_view(status, attempts, cost, complete=complete),
    )


async def list_calls(
    filters: Filters,
    server: Server,
    output: Output,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many calls at most.")] = 20,
) -> None:
    """List calls, the latest first."""
    client = await server.client(want_search_attributes=bool(filters.clauses()))
    rows = await Rpcs(client).run(find_calls(client, filters.query(), limit), wait=server.patience)
    output.give({"calls": rows}, calls_table(rows))


async def cancel(call_id: CallId, server: Server, output: Output) -> None:
    """Ask a call to end. A call that has ended stays as it is."""
    async with server.dispatcher() as dispatcher:
        await dispatcher.attach(call_id).cancel()
    output.give({"call_id": call_id, "cancel_requested": True}, f"asked call {call_id!r} to end")
