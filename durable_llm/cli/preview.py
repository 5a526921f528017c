"""A call's answer on a terminal while it is written. What is withdrawn disappears, and a line says why."""

from contextlib import AbstractAsyncContextManager
from typing import Final

from rich.console import Group
from rich.live import Live
from rich.text import Text

from durable_llm.background import running
from durable_llm.cli.output import error_console, plain
from durable_llm.client.handle import CallHandle
from durable_llm.client.stream_events import AttemptStarted, AttemptWithdrawn, ReasoningDelta, StreamEvent, Waiting
from durable_llm.errors import CallNotFoundError, DispatcherUnavailableError, DurableLLMError

_BESIDE_TEXT: Final = 3
"""Lines of the terminal that the text leaves free."""


def preview(handle: CallHandle) -> AbstractAsyncContextManager[None]:
    """Show the answer for as long as the context lasts. It is gone from the terminal afterwards."""
    return running(_show(handle))


async def followed(handle: CallHandle) -> None:
    """Show the answer until the call ends, however it does.

    Raises:
        CallNotFoundError, DispatcherUnavailableError: there is nothing to follow.
    """
    try:
        await _show(handle)
    except (CallNotFoundError, DispatcherUnavailableError):
        raise
    except DurableLLMError:  # what is shown next says how it ended
        return


async def _show(handle: CallHandle) -> None:
    console = error_console()
    stream, doing = handle.stream(), f"{handle.call_id}: asking"
    with Live(console=console, transient=True, auto_refresh=False) as live:
        async for event in stream:
            doing = _doing(event) or doing
            lines = plain(stream.text).splitlines()[-max(console.height - _BESIDE_TEXT, 1) :]
            live.update(Group(*map(Text, lines), Text(plain(doing), style="dim")), refresh=True)


def _doing(event: StreamEvent) -> str | None:
    """The line below the text."""
    match event:
        case AttemptStarted():
            return f"attempt {event.attempt}: {event.model}"
        case ReasoningDelta():
            return f"attempt {event.attempt} is thinking"
        case AttemptWithdrawn():
            return f"attempt {event.attempt} was withdrawn: {event.reason}"
        case Waiting():
            return f"waiting {event.delay_s:.1f} s: {event.reason}"
    return None
