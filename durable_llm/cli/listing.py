"""Filters of a list of calls, by their search attributes."""

from dataclasses import dataclass
from typing import Annotated, Final

import typer

from durable_llm.client.listing import CALLS, Ending, quoted
from durable_llm.contract import search_attributes
from durable_llm.contract.categories import Category

_OUTCOME: Final = search_attributes.OUTCOME.name
# A call that Temporal ended keeps the outcome of a running one.
_SPECIAL: Final = {
    Ending.RUNNING: f"{_OUTCOME} = 'running' AND ExecutionStatus = 'Running'",
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
