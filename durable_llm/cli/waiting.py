"""Waiting for a result, and what becomes of the call when the wait is interrupted."""

import asyncio
import shlex
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Final

import typer

from durable_llm.cli.exits import CallInterruptedError
from durable_llm.cli.output import Output, error_console, plain
from durable_llm.cli.progress import progress
from durable_llm.cli.tables import answer_text, totals_line
from durable_llm.cli.values import duration
from durable_llm.client.handle import CallHandle
from durable_llm.contract.result import LLMResult
from durable_llm.errors import CallNotFoundError, DurableLLMError

_CANCEL_S: Final = 3.0

Wait = Annotated[
    str | None,
    typer.Option(help="How long to wait; then exit with 6, and the call goes on.", metavar="DURATION"),
]


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """How to wait for a result."""

    wait: Wait = None
    progress: Annotated[
        bool | None,
        typer.Option("--progress/--no-progress", help="Say on stderr what the call is doing; by itself on a terminal."),
    ] = None

    @property
    def limit(self) -> timedelta | None:
        """How long to wait."""
        return duration("--wait", self.wait) if self.wait is not None else None

    async def result(self, handle: CallHandle, output: Output) -> None:
        """Wait for the result and give it."""
        async with progress(handle, self.progress):
            result = await handle.result(self.limit)
        shortcuts = {"call_id": handle.call_id, "text": result.text}
        output.give({**shortcuts, **result.model_dump(mode="json")}, answer_text(result))
        if not output.as_json:
            error_console().print(plain(_summary(handle.call_id, result)))


def _summary(call_id: str, result: LLMResult) -> str:
    cut = "; the text was cut: Temporal would not store it whole" if result.truncated else ""
    spent = totals_line(result.attempts_total, result.total_cost, complete=result.cost_complete)
    return f"{call_id}: {result.model}, {spent}{cut}"


async def interrupted(handle: CallHandle, *, cancel: bool) -> CallInterruptedError:
    """What to say after Ctrl-C; a call that nobody else knows the id of is cancelled first."""
    shown = shlex.quote(handle.call_id)
    if not cancel:
        text = f"interrupted; call {handle.call_id!r} goes on: durable-llm result {shown}"
        return CallInterruptedError(text, call_id=handle.call_id)
    try:
        await asyncio.wait_for(handle.cancel(), _CANCEL_S)
    except CallNotFoundError:
        text = "interrupted before the call was accepted"
    except (DurableLLMError, TimeoutError):
        text = f"interrupted; call {handle.call_id!r} could not be cancelled: durable-llm cancel {shown}"
    else:
        text = f"interrupted; call {handle.call_id!r} was cancelled (with --id it would have gone on)"
    return CallInterruptedError(text, call_id=handle.call_id)
