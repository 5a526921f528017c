"""What calls have used, whichever program made them."""

from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from durable_llm.client.handle import CallHandle
from durable_llm.client.listing import CALLS, CallRow, quoted
from durable_llm.client.many import at_once
from durable_llm.client.spending import Spending, spent_by_attempts
from durable_llm.contract import search_attributes
from durable_llm.errors import DispatcherUnavailableError, DurableLLMError, InvalidRequestError

_AT_ONCE: Final = 16
_UNREADABLE: Final = Spending(calls=1, cost_complete=False)
"""Of a call whose ledger cannot be read. Nothing is known of it, and that is not zero."""


@dataclass(frozen=True)
class Report:
    """Calls, and what they have used.

    Attributes:
        calls: The calls, the latest first.
        by_call: What each has used, by its id.
        spent: The total.
        complete: Whether these are all the calls that were asked for; False: there are more than the limit.
        not_asked_again: In a job's report, ids of calls that this run has not asked for.
    """

    calls: list[CallRow]
    by_call: dict[str, Spending]
    spent: Spending
    complete: bool = True
    not_asked_again: list[str] = field(default_factory=list)


def conditions(
    *, job: str | None = None, session: str | None = None, since: datetime | None = None, running: bool = False
) -> str:
    """The query for a job's or a session's calls, in Temporal's query language.

    Raises:
        InvalidRequestError: no query can hold the name, or `since` has no time zone.
    """
    parts = [CALLS]
    if job is not None:
        parts.append(f"WorkflowId STARTS_WITH {quoted(f'{job}/')}")
    if session is not None:
        parts.append(f"{search_attributes.SESSION.name} = {quoted(session)}")
    if since is not None:
        if since.tzinfo is None:
            raise InvalidRequestError("since: the datetime has no time zone; write datetime(..., tzinfo=UTC)")
        parts.append(f"StartTime >= '{since.isoformat()}'")
    if running:
        parts.append("ExecutionStatus = 'Running'")
    return " AND ".join(parts)


async def read_report(rows: Sequence[CallRow], attach: Callable[[str], CallHandle], limit: int) -> Report:
    """What calls have used, from the ledger of each, at most `limit` of them.

    Raises:
        DispatcherUnavailableError: the server refused.
    """

    async def spent(row: CallRow) -> tuple[str, Spending]:
        try:
            return row.call_id, spent_by_attempts(await attach(row.call_id).attempts())
        except DispatcherUnavailableError:
            raise
        except DurableLLMError:
            return row.call_id, _UNREADABLE

    listed = list(rows[:limit])
    async with aclosing(at_once(spent, listed, concurrency=_AT_ONCE)) as each:
        by_call = {call_id: spending async for call_id, spending in each}
    return Report(listed, by_call, sum(by_call.values(), Spending()), complete=len(rows) <= limit)
