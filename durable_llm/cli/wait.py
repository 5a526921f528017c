"""Wait for a result, show what the call is doing meanwhile, and say what becomes of it when the wait is interrupted."""

import asyncio
import shlex
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.status import Status
from rich.text import Text

from durable_llm.cli.exits import CallInterruptedError
from durable_llm.cli.output import Output, error_console, plain
from durable_llm.cli.parse import duration
from durable_llm.cli.preview import preview
from durable_llm.cli.tables import answer_text, totals_line
from durable_llm.client.handle import CallHandle
from durable_llm.contract.result import CallStatus, LLMResult
from durable_llm.errors import CallNotFoundError, DurableLLMError

_CANCEL_S: Final = 3.0
_EVERY_S: Final = 1.0
_STATUS_S: Final = 5.0
"""How long a status may take before the line says that Temporal does not answer. The wait itself has no limit."""

Wait = Annotated[
    str | None,
    typer.Option(help="How long to wait. Then the exit code is 6 and the call goes on.", metavar="DURATION"),
]


@dataclass(frozen=True, kw_only=True)
class WaitOptions:
    """How to wait for a result."""

    wait: Wait = None
    progress: Annotated[
        bool | None,
        typer.Option(
            "--progress/--no-progress",
            help="Say on stderr what the call is doing. Without the option: only on a terminal.",
        ),
    ] = None

    @property
    def limit(self) -> timedelta | None:
        """How long to wait."""
        return duration("--wait", self.wait) if self.wait is not None else None

    async def result(self, handle: CallHandle, output: Output, *, stream: bool = False) -> None:
        """Wait for the result and print it; on a terminal, show it while it is written if `stream` says so."""
        shown = preview(handle) if stream and error_console().is_terminal else progress(handle, self.progress)
        async with shown:
            result = await handle.result(self.limit)
        shortcuts = {"call_id": handle.call_id, "text": result.text}
        output.give({**shortcuts, **result.model_dump(mode="json")}, answer_text(result))
        if not output.as_json:
            error_console().print(plain(_summary(handle.call_id, result)))


def _summary(call_id: str, result: LLMResult) -> str:
    cut = "; the text was cut: it was too large for Temporal" if result.truncated else ""
    spent = totals_line(result.attempts_total, result.total_cost, complete=result.cost_complete)
    return f"{call_id}: {result.model}, {spent}{cut}"


async def interrupted(handle: CallHandle, *, cancel: bool) -> CallInterruptedError:
    """The error after Ctrl-C.

    Args:
        handle: The call.
        cancel: Cancel it first. Nobody else knows an id that was made here.
    """
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


@asynccontextmanager
async def progress(handle: CallHandle, wanted: bool | None) -> AsyncIterator[None]:
    """Show what the call is doing for as long as the context lasts.

    Args:
        handle: The call.
        wanted: None: if stderr is a terminal, as one line that changes; True: elsewhere too, as a line for each change.
    """
    console = error_console()
    if not (console.is_terminal if wanted is None else wanted):
        yield
        return
    shown = console.status(Text(plain(f"{handle.call_id}: asking"))) if console.is_terminal else None
    with shown or nullcontext():
        following = asyncio.create_task(_follow(handle, _updating(shown) if shown else _appending(console)))
        try:
            yield
        finally:
            following.cancel()
            [ended] = await asyncio.gather(following, return_exceptions=True)
    if isinstance(ended, Exception):  # the answer is printed all the same
        console.print(f"no progress shown: {type(ended).__name__}: {ended}")


async def _follow(handle: CallHandle, show: Callable[[str, str], None]) -> None:
    while True:
        show(*await _status(handle))
        await asyncio.sleep(_EVERY_S)


async def _status(handle: CallHandle) -> tuple[str, str]:
    """What the call is doing: without the end of its wait, and with it."""
    try:
        async with asyncio.timeout(_STATUS_S):
            status = await handle.status()
    except (DurableLLMError, TimeoutError):
        text = f"{handle.call_id}: Temporal does not answer; the call goes on"
        return text, text
    doing = plain(f"{handle.call_id}: {status.activity or status.outcome}")
    return doing, doing + _until(status)


def _until(status: CallStatus) -> str:
    if status.next_attempt_at is None:
        return ""
    ends = status.next_attempt_at.astimezone()
    today = ends.date() == datetime.now().astimezone().date()
    return f", until {ends:%H:%M:%S}" if today else f", until {ends:%Y-%m-%d %H:%M:%S}"


def _updating(shown: Status) -> Callable[[str, str], None]:
    return lambda _, text: shown.update(Text(text))


def _appending(console: Console) -> Callable[[str, str], None]:
    last = ""

    def show(doing: str, text: str) -> None:
        nonlocal last
        if doing != last:
            console.print(text)
        last = doing

    return show
