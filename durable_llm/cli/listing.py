"""Filters of a list of calls, by their search attributes."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Final

import typer

from durable_llm.client.dispatcher import Dispatcher
from durable_llm.client.listing import CALLS, CallRow, Ending, quoted
from durable_llm.client.many import at_once
from durable_llm.contract import search_attributes
from durable_llm.contract.categories import Category

_AT_ONCE: Final = 50
_OUTCOME: Final = search_attributes.OUTCOME.name
_RUNS: Final = "ExecutionStatus = 'Running'"
# A call that Temporal ended keeps the outcome of a running one.
_SPECIAL: Final = {
    Ending.RUNNING: f"{_OUTCOME} = 'running' AND {_RUNS}",
    Ending.WAITING: _RUNS,  # and the call itself is asked
    Ending.PAUSED: f"{_OUTCOME} = 'paused' AND {_RUNS}",
    Ending.PARKED: f"{_OUTCOME} = 'parked' AND {_RUNS}",
    Ending.DEADLINE: f"({_OUTCOME} = 'deadline' OR ExecutionStatus = 'TimedOut')",
    # A request that the worker does not understand ends the call before its attributes say so.
    Ending.REJECTED: f"({_OUTCOME} = 'rejected' OR ({_OUTCOME} = 'running' AND ExecutionStatus = 'Failed'))",
    Ending.TERMINATED: "ExecutionStatus = 'Terminated'",
}


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which calls to list."""

    outcome: Annotated[Ending | None, typer.Option(help="Only calls with this outcome.")] = None
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Only calls that asked this model last.", metavar="NAME")
    ] = None
    category: Annotated[Category | None, typer.Option(help="Only calls with this category of the last failure.")] = None
    session: Annotated[str | None, typer.Option(help="Only calls of this session.", metavar="NAME")] = None

    def query(self) -> str:
        """The visibility query."""
        return " AND ".join([CALLS, *self.clauses()])

    @property
    def only_waiting(self) -> bool:
        """Whether each call that the query finds has to be asked whether it waits."""
        return self.outcome is Ending.WAITING

    def clauses(self) -> list[str]:
        """One condition for each filter."""
        equal = {
            search_attributes.MODEL.name: self.model,
            search_attributes.ERROR_CATEGORY.name: self.category,
            search_attributes.SESSION.name: self.session,
        }
        clauses = [f"{name} = {quoted(value)}" for name, value in equal.items() if value is not None]
        if self.outcome is not None:
            clauses.append(_SPECIAL.get(self.outcome, f"{_OUTCOME} = {quoted(self.outcome)}"))
        return clauses


async def found_by(
    dispatcher: Dispatcher, filters: Filters, limit: int, *, only_running: bool = False
) -> list[CallRow]:
    """The calls that filters find, the latest first.

    Raises:
        InvalidRequestError, DispatcherUnavailableError: the server refused.
    """
    query = f"{filters.query()} AND {_RUNS}" if only_running else filters.query()
    rows = await dispatcher.find(query, limit)
    return await waiting_of(dispatcher, rows) if filters.only_waiting else rows


async def waiting_of(dispatcher: Dispatcher, rows: Sequence[CallRow]) -> list[CallRow]:
    """Those calls of which no request is under way. Each is asked: Temporal's list does not know it."""

    async def waits(row: CallRow) -> bool:
        return (await dispatcher.attach(row.call_id).status()).waits

    async with aclosing(at_once(waits, rows, concurrency=_AT_ONCE, ordered=True)) as each:
        waiting = [answer async for answer in each]
    return [row for row, is_waiting in zip(rows, waiting, strict=True) if is_waiting]
