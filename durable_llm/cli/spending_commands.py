"""The commands that say what calls have used and may use: `job`, `cost`, `budget`."""

from collections import defaultdict
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from durable_llm.cli.output import Output, error_console
from durable_llm.cli.parse import duration
from durable_llm.cli.tables import job_table, spending_line, spending_table
from durable_llm.cli.temporal_options import TaskQueue, TemporalOptions
from durable_llm.client.report import Report
from durable_llm.client.spending import Spending
from durable_llm.contract.ledger import usd
from durable_llm.contract.names import TASK_QUEUE
from durable_llm.errors import CallNotFoundError

JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]
Limit = Annotated[int, typer.Option(min=1, max=100_000, help="How many calls at most.")]


async def job(
    job_id: JobId,
    temporal: TemporalOptions,
    output: Output,
    limit: Limit = 10_000,
    cancel: Annotated[bool, typer.Option("--cancel", help="Ask all running calls of the job to end.")] = False,
) -> None:
    """Show the calls of a job, and what they have used. With --cancel, ask those that run to end."""
    async with temporal.dispatcher() as dispatcher:
        if cancel:
            await dispatcher.job(job_id).cancel()
        found = await dispatcher.report(job=job_id, limit=limit)
    if not found.calls:
        raise CallNotFoundError(f"there is no call of a job {job_id!r}; its retention may have passed")
    calls = [{**row.model_dump(mode="json"), "spent": asdict(found.by_call[row.call_id])} for row in found.calls]
    done = "; asked the calls that were running to end" if cancel else ""
    output.give(
        {"job_id": job_id, "calls": calls, **_totals(found)},
        Group(job_table(found), Text(spending_line(found.spent) + done)),
    )
    _warn_if_cut(found, output)


async def cost(
    temporal: TemporalOptions,
    output: Output,
    job_id: Annotated[str | None, typer.Option("--job", help="Only calls of this job.", metavar="ID")] = None,
    session: Annotated[str | None, typer.Option(help="Only calls of this session.", metavar="NAME")] = None,
    since: Annotated[
        str | None, typer.Option(help="Only calls that were started in this time.", metavar="DURATION")
    ] = None,
    limit: Limit = 10_000,
) -> None:
    """Show what calls have used, by session. A job's id is the session of its calls."""
    start = datetime.now(UTC) - duration("--since", since) if since is not None else None
    async with temporal.dispatcher() as dispatcher:
        found = await dispatcher.report(job=job_id, session=session, since=start, limit=limit)
    by_session = _by_session(found)
    output.give(
        {"sessions": [{"session": name, **asdict(spent)} for name, spent in by_session.items()], **_totals(found)},
        Group(spending_table(by_session), Text(spending_line(found.spent))),
    )
    _warn_if_cut(found, output)


async def budget(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The budget's name; of a day, with its date behind it.")],
    temporal: TemporalOptions,
    output: Output,
    raise_to: Annotated[
        float | None, typer.Option(help="What its calls may spend in all; calls that wait go on.", metavar="USD")
    ] = None,
    soft: Annotated[float | None, typer.Option(help="From which amount on it warns.", metavar="USD")] = None,
    task_queue: TaskQueue = TASK_QUEUE,
) -> None:
    """Show what a budget is at, or raise it."""
    async with temporal.dispatcher(task_queue=task_queue) as dispatcher:
        if raise_to is None and soft is None:
            status = await dispatcher.budget(name)
        else:
            status = await dispatcher.raise_budget(name, hard=raise_to, soft=soft)
    limit = "without a limit" if status.hard is None else f"of {usd(status.hard)}"
    guessed = f" ({usd(status.estimated)} of it by estimate)" if status.estimated else ""
    text = (
        f"{usd(status.spent)} {limit} spent{guessed}, {usd(status.reserved)} reserved by attempts in flight; "
        f"{status.waiting} calls wait"
    )
    output.give(status.model_dump(mode="json"), Text(text))


def _by_session(found: Report) -> dict[str | None, Spending]:
    totals: dict[str | None, Spending] = defaultdict(Spending)
    for row in found.calls:
        totals[row.session] += found.by_call[row.call_id]
    return dict(sorted(totals.items(), key=lambda item: item[1].cost, reverse=True))


def _totals(found: Report) -> dict[str, Any]:
    return {"totals": asdict(found.spent), "complete": found.complete}


def _warn_if_cut(found: Report, output: Output) -> None:
    if not found.complete and not output.as_json:
        error_console().print(f"there are more than {len(found.calls):,} calls; raise --limit")
