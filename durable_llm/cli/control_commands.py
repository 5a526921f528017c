"""The commands that steer calls in flight.

`retry`, `skip`, `replace`, `pause`, `resume` and `extend` take ids, or filters for many calls. With filters they only
show what they would do, until they are told --yes. `end` takes one id; `hold` and `release` take models.
"""

from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer
from rich.console import Group
from rich.text import Text

from durable_llm.cli.call_commands import CallId
from durable_llm.cli.exits import Exit
from durable_llm.cli.listing import Filters, found_by
from durable_llm.cli.output import Output, plain
from durable_llm.cli.parse import deadline as deadline_of
from durable_llm.cli.parse import duration
from durable_llm.cli.tables import calls_table, holds_table
from durable_llm.cli.temporal_options import TaskQueue, TemporalOptions
from durable_llm.client.dispatcher import Dispatcher
from durable_llm.client.handle import CallHandle
from durable_llm.client.many import at_once
from durable_llm.contract.names import TASK_QUEUE
from durable_llm.errors import CallNotFoundError, InvalidRequestError

_AT_ONCE: Final = 50

_Act = Callable[[CallHandle], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Who does it, and why."""

    why: Annotated[str, typer.Option(help="The reason, for the call's ledger.", metavar="TEXT")]
    by: Annotated[
        str | None, typer.Option(help="Who, for the call's ledger.", metavar="NAME", show_default="user@host")
    ] = None

    @property
    def told(self) -> dict[str, Any]:
        """The keyword arguments of a handle's methods."""
        return {"why": self.why, "by": self.by}


@dataclass(frozen=True, kw_only=True)
class Which:
    """Which calls."""

    call_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="The calls' ids; without one, filters.")
    ] = None
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it to the calls that the filters find. Without it they are only shown.")
    ] = False
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many calls at most, with filters.")] = 10_000


def retry(
    which: Which, filters: Filters, reason: Reason, temporal: TemporalOptions, output: Output
) -> Coroutine[Any, Any, int | None]:
    """Let calls ask now instead of after their wait."""
    return _each("retry", which, filters, temporal, output, lambda handle: handle.retry(**reason.told))


def skip(
    which: Which, filters: Filters, reason: Reason, temporal: TemporalOptions, output: Output
) -> Coroutine[Any, Any, int | None]:
    """Let calls leave their model for the next one. With --model, only calls that are still at it."""
    return _each(
        "skip", which, filters, temporal, output, lambda handle: handle.skip(model=filters.model, **reason.told)
    )


def replace(
    which: Which, filters: Filters, reason: Reason, temporal: TemporalOptions, output: Output,
    to: Annotated[list[str], typer.Option(help="Model to ask; several in their order.", metavar="NAME")],
) -> Coroutine[Any, Any, int | None]:  # fmt: skip
    """Give calls other models after the current one; parked calls, instead of all their models."""
    return _each("replace", which, filters, temporal, output, lambda handle: handle.replace(to, **reason.told))


def pause(
    which: Which, filters: Filters, reason: Reason, temporal: TemporalOptions, output: Output
) -> Coroutine[Any, Any, int | None]:
    """Let calls begin no attempt until they are resumed."""
    return _each("pause", which, filters, temporal, output, lambda handle: handle.pause(**reason.told))


def resume(
    which: Which, filters: Filters, reason: Reason, temporal: TemporalOptions, output: Output
) -> Coroutine[Any, Any, int | None]:
    """Let paused calls go on, and parked ones start their chain again."""
    return _each("resume", which, filters, temporal, output, lambda handle: handle.resume(**reason.told))


def extend(
    which: Which, filters: Filters, reason: Reason, temporal: TemporalOptions, output: Output,
    deadline: Annotated[
        str, typer.Option(help="Time from now, or a moment like 2030-01-31T12:00Z.", metavar="DURATION|MOMENT")
    ],
) -> Coroutine[Any, Any, int | None]:  # fmt: skip
    """Give calls a later deadline."""
    until = deadline_of("--deadline", deadline)
    return _each("extend", which, filters, temporal, output, lambda handle: handle.extend(until, **reason.told))


async def end(
    call_id: CallId, reason: Reason, temporal: TemporalOptions, output: Output,
    answer: Annotated[str, typer.Option(help="The answer; nothing checks it.", metavar="TEXT")],
) -> None:  # fmt: skip
    """End a call with an answer that you give."""
    async with temporal.dispatcher() as dispatcher:
        await dispatcher.attach(call_id).end(answer, **reason.told)
    output.give({"call_id": call_id, "done": "end"}, f"end: call {call_id!r} has the given answer")


Models = Annotated[
    str, typer.Argument(metavar="MODELS", help="A provider, a model, or a pattern: 'openai', 'openai/gpt-4o*'.")
]
ApiKey = Annotated[
    str | None, typer.Option(help="Only the account of this key reference in the specs.", metavar="REFERENCE")
]


async def hold(
    models: Models, reason: Reason, temporal: TemporalOptions, output: Output, task_queue: TaskQueue = TASK_QUEUE,
    api_key: ApiKey = None,
    lasts: Annotated[
        str | None, typer.Option("--for", help="How long; without it until it is released.", metavar="DURATION")
    ] = None,
) -> None:  # fmt: skip
    """Let no call ask an account or a model for now; calls wait without spending an attempt."""
    limit = duration("--for", lasts) if lasts is not None else None
    async with temporal.dispatcher(task_queue=task_queue) as dispatcher:
        await dispatcher.hold(models, api_key=api_key, lasts=limit, **reason.told)
    output.give({"models": models, "held": True}, f"hold: calls ask {models} no more; 'durable-llm release' ends it")


async def release(
    models: Models, reason: Reason, temporal: TemporalOptions, output: Output, task_queue: TaskQueue = TASK_QUEUE,
    api_key: ApiKey = None,
) -> None:  # fmt: skip
    """Release what is held; the calls that wait go on, a hundred a second."""
    async with temporal.dispatcher(task_queue=task_queue) as dispatcher:
        await dispatcher.release(models, api_key=api_key, **reason.told)
    output.give({"models": models, "held": False}, f"release: calls may ask {models} again")


async def holds(temporal: TemporalOptions, output: Output, task_queue: TaskQueue = TASK_QUEUE) -> None:
    """List what is held."""
    async with temporal.dispatcher(task_queue=task_queue) as dispatcher:
        held = await dispatcher.holds()
    output.give({"holds": held}, holds_table(held))


async def _each(
    action: str, which: Which, filters: Filters, temporal: TemporalOptions, output: Output, act: _Act
) -> int | None:
    """Do it to each call that is named, or to each that the filters find, if --yes says so."""
    if bool(which.call_ids) == bool(filters.clauses()):
        raise InvalidRequestError(f"{action}: name calls by their ids or by filters, one of the two")
    async with temporal.dispatcher(search_attributes=not which.call_ids) as dispatcher:
        if which.call_ids:
            return await _act(action, which.call_ids, dispatcher, output, act)
        rows = await found_by(dispatcher, filters, which.limit, only_running=True)
        if which.yes:
            return await _act(action, [row.call_id for row in rows], dispatcher, output, act)
    hint = f"{action}: {len(rows)} calls; nothing was done, --yes does it"
    output.give({"action": action, "calls": rows, "done": [], "dry_run": True}, Group(calls_table(rows), Text(hint)))
    return None


async def _act(action: str, call_ids: list[str], dispatcher: Dispatcher, output: Output, act: _Act) -> int | None:
    async def one(call_id: str) -> tuple[str, InvalidRequestError | CallNotFoundError | None]:
        try:
            await act(dispatcher.attach(call_id))
        except (InvalidRequestError, CallNotFoundError) as error:
            if len(call_ids) == 1:
                raise
            return call_id, error
        return call_id, None

    async with aclosing(at_once(one, call_ids, concurrency=_AT_ONCE, ordered=True)) as each:
        ended = dict([pair async for pair in each])
    refused = {call_id: plain(error.message) for call_id, error in ended.items() if error is not None}
    done = [call_id for call_id, error in ended.items() if error is None]
    lines = "".join(f"\n{text}" for text in refused.values())
    output.give(
        {"action": action, "done": done, "refused": refused, "dry_run": False},
        f"{action}: {len(done)} of {len(ended)} calls{lines}",
    )
    return Exit.FAILED if refused else None
