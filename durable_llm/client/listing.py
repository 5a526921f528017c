"""Find calls in Temporal's list."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus
from temporalio.common import SearchAttributeKey

from durable_llm.contract import search_attributes
from durable_llm.contract.categories import UNFINISHED, CallOutcome
from durable_llm.contract.names import WORKFLOW
from durable_llm.contract.wire import Wire
from durable_llm.errors import InvalidRequestError


class Ending(StrEnum):
    """Values of `list --outcome`: a call's outcomes, a termination, which no workflow can record, and waiting calls."""

    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    PARKED = "parked"
    ANSWERED = "answered"
    EXHAUSTED = "exhausted"
    REJECTED = "rejected"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    TERMINATED = "terminated"


_ENDED_BY_TEMPORAL: Final = {
    WorkflowExecutionStatus.TERMINATED: Ending.TERMINATED,
    WorkflowExecutionStatus.TIMED_OUT: Ending.DEADLINE,
}


class CallRow(Wire):
    """One call in a list."""

    call_id: str
    run_id: str
    outcome: str | None
    model: str | None
    """The model that was asked last."""
    category: str | None
    """Of the last failure."""
    attempts: int | None
    cost: float | None
    """USD, the known part. None: nothing is known."""
    session: str | None
    started_at: datetime
    ended_at: datetime | None


CALLS: Final = f"WorkflowType = '{WORKFLOW}' AND ExecutionStatus != 'ContinuedAsNew'"
"""The query for all calls, each by its latest run; conditions are added with AND."""


def quoted(text: str) -> str:
    """`text` as a literal of Temporal's query language.

    Raises:
        InvalidRequestError: no literal can hold it: a backslash escapes a quote, but nothing escapes a backslash.
    """
    if text.endswith("\\") or "\\'" in text:
        raise InvalidRequestError("a filter with a backslash before a quote or at its end cannot be searched for")
    return "'" + text.replace("'", "''") + "'"


async def find_calls(client: Client, query: str, limit: int) -> list[CallRow]:
    """At most `limit` calls, the latest start first.

    Temporal returns running calls first, then the latest end. No other order works on every database.
    """
    rows = [_row(execution) async for execution in client.list_workflows(query, limit=limit)]
    return sorted(rows, key=lambda row: row.started_at, reverse=True)


def _row(execution: WorkflowExecution) -> CallRow:
    def shown(key: SearchAttributeKey[Any]) -> Any:
        return execution.typed_search_attributes.get(key)

    return CallRow(
        call_id=execution.id,
        run_id=execution.run_id,
        outcome=_ending(execution, shown(search_attributes.OUTCOME)),
        model=shown(search_attributes.MODEL),
        category=shown(search_attributes.ERROR_CATEGORY),
        attempts=shown(search_attributes.ATTEMPTS),
        cost=shown(search_attributes.COST_USD),
        session=shown(search_attributes.SESSION),
        started_at=execution.start_time,
        ended_at=execution.close_time,
    )


def _ending(execution: WorkflowExecution, recorded: str | None) -> str | None:
    """The recorded outcome, or Temporal's status where Temporal ended the call."""
    if execution.status in _ENDED_BY_TEMPORAL:
        return _ENDED_BY_TEMPORAL[execution.status]
    if recorded is not None and (recorded not in UNFINISHED or execution.close_time is None):
        return recorded
    if recorded == CallOutcome.RUNNING and execution.status == WorkflowExecutionStatus.FAILED:
        return CallOutcome.REJECTED
    return execution.status.name.lower() if execution.status else None
