"""The commands that make a call and look after it: `call`, `submit`, `result`, `show`, `list`, `cancel`.

Only `call` and `result` need a worker that answers.
"""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from durable_llm.cli.call_options import SubmitOptions
from durable_llm.cli.listing import Filters, found_by
from durable_llm.cli.model_options import ModelOptions
from durable_llm.cli.output import Output
from durable_llm.cli.parse import duration
from durable_llm.cli.preview import followed
from durable_llm.cli.prompt_options import PromptOptions
from durable_llm.cli.tables import call_view, calls_table
from durable_llm.cli.temporal_options import QueueOptions, TemporalOptions
from durable_llm.cli.wait import Wait, WaitOptions, interrupted
from durable_llm.client.checks import fresh_call_id
from durable_llm.client.handle import CallHandle
from durable_llm.client.new_call import CallOptions
from durable_llm.client.prompt import Messages
from durable_llm.client.spending import spent_by_attempts
from durable_llm.contract.config import LLMConfig

CallId = Annotated[str, typer.Argument(metavar="ID", help="The call's id.")]

_Call = tuple[LLMConfig, Messages, CallOptions]


def call(
    prompt: PromptOptions, models: ModelOptions, options: SubmitOptions, wait: WaitOptions, queue: QueueOptions,
    temporal: TemporalOptions, output: Output,
) -> Coroutine[Any, Any, None]:  # fmt: skip
    """Make a call, wait, and print the answer. Ctrl-C cancels the call, unless it has an --id to attach to."""
    return _call(_read(prompt, models, options), options.call_id, wait, queue, temporal, output)


async def _call(
    new: _Call, given_id: str | None, wait: WaitOptions, queue: QueueOptions, temporal: TemporalOptions, output: Output
) -> None:
    config, messages, options = new
    call_id = given_id if given_id is not None else fresh_call_id()
    async with queue.dispatcher(temporal) as dispatcher:
        try:
            handle = await dispatcher.submit(config, messages, call_id=call_id, wait=wait.limit, **options)
            await wait.result(handle, output, stream=options["stream"])
        except asyncio.CancelledError:
            raise await interrupted(dispatcher.attach(call_id), cancel=given_id is None) from None


def submit(
    prompt: PromptOptions, models: ModelOptions, options: SubmitOptions, queue: QueueOptions,
    temporal: TemporalOptions, output: Output, wait: Wait = None,
) -> Coroutine[Any, Any, None]:  # fmt: skip
    """Start a call, or attach to the one with this --id, and print its id without waiting for the answer."""
    return _submit(_read(prompt, models, options), options.call_id, wait, queue, temporal, output)


async def _submit(
    new: _Call, given_id: str | None, wait: str | None, queue: QueueOptions, temporal: TemporalOptions, output: Output
) -> None:
    config, messages, options = new
    limit = duration("--wait", wait) if wait is not None else None
    async with queue.dispatcher(temporal) as dispatcher:
        handle = await dispatcher.submit(config, messages, call_id=given_id, wait=limit, **options)
    output.give({"call_id": handle.call_id}, handle.call_id)


def _read(prompt: PromptOptions, models: ModelOptions, options: SubmitOptions) -> _Call:
    """Everything that the command line and its files say, read before Temporal is connected."""
    arguments = options.to_arguments()
    config = models.to_config()
    arguments["response_format"] = prompt.response_format()
    arguments["validators"] = prompt.validators()
    return config, prompt.to_messages(), arguments


async def result(call_id: CallId, wait: WaitOptions, temporal: TemporalOptions, output: Output) -> None:
    """Wait for a call's answer and print it."""
    async with temporal.dispatcher() as dispatcher:
        handle = dispatcher.attach(call_id)
        try:
            await wait.result(handle, output)
        except asyncio.CancelledError:
            raise await interrupted(handle, cancel=False) from None


async def show(
    call_id: CallId, temporal: TemporalOptions, output: Output,
    follow: Annotated[
        bool, typer.Option("--follow", help="Wait for the call's end, and show its answer while it is written.")
    ] = False,
) -> None:  # fmt: skip
    """Show where a call stands, and every attempt of it."""
    async with temporal.dispatcher() as dispatcher:
        handle = dispatcher.attach(call_id)
        if follow:
            await followed(handle)
        seen, view = await look_at(handle)
    output.give(seen, view)


async def look_at(handle: CallHandle) -> tuple[dict[str, Any], RenderableType]:
    """Where a call stands and every attempt of it, for a script and for people."""
    status, attempts = await handle.status(), await handle.attempts()
    spent = spent_by_attempts(attempts)
    complete = spent.cost_complete and len(attempts) >= status.attempts
    totals = {"attempts": status.attempts, "total_cost": spent.cost, "cost_complete": complete}
    return (
        {"call_id": handle.call_id, "status": status, "attempts": attempts, "totals": totals},
        call_view(status, attempts, spent.cost, complete=complete),
    )


async def list_calls(
    filters: Filters,
    temporal: TemporalOptions,
    output: Output,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many calls at most.")] = 20,
) -> None:
    """List calls, the latest first."""
    async with temporal.dispatcher(search_attributes=bool(filters.clauses())) as dispatcher:
        rows = await found_by(dispatcher, filters, limit)
    output.give({"calls": rows}, calls_table(rows))


async def cancel(call_id: CallId, temporal: TemporalOptions, output: Output) -> None:
    """Ask a call to end. A call that has ended stays as it is."""
    async with temporal.dispatcher() as dispatcher:
        await dispatcher.attach(call_id).cancel()
    output.give({"call_id": call_id, "cancel_requested": True}, f"asked call {call_id!r} to end")
