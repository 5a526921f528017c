"""Progress while a result is awaited: which attempt, which wait, until when. On stderr, for people."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from datetime import datetime
from typing import Final

from rich.console import Console
from rich.status import Status
from rich.text import Text

from durable_llm.cli.output import error_console, plain
from durable_llm.client.handle import CallHandle
from durable_llm.contract.result import CallStatus
from durable_llm.errors import DurableLLMError

_EVERY_S: Final = 1.0
_PATIENCE_S: Final = 5.0
"""How long one look may take before the line says that Temporal is away; the result itself is awaited without limit."""


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
    if isinstance(ended, Exception):  # a picture that broke takes no answer with it
        console.print(f"no progress shown: {type(ended).__name__}: {ended}")


async def _follow(handle: CallHandle, show: Callable[[str, str], None]) -> None:
    while True:
        show(*await _look(handle))
        await asyncio.sleep(_EVERY_S)


async def _look(handle: CallHandle) -> tuple[str, str]:
    """What the call is doing, without and with the end of its wait."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
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
