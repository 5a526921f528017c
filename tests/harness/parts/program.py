"""A run as a program: its console, the signals that stop it, its exit code."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

from rich.console import Console

from workers.dev.children import StackError, cancelled_by_signals

INTERRUPTED: Final = 130

_PLAIN_WIDTH: Final = 100
"""Columns of output that goes to a file."""


def run_program(run: Callable[[Console], Awaitable[bool]]) -> NoReturn:
    """Run and exit: 0 when the verdict is good, 1 when it is not or a process failed."""
    code = asyncio.run(_run(run))
    sys.stdout.flush()
    os._exit(code)  # the SDK's threads may abort an interpreter that tears itself down


async def _run(run: Callable[[Console], Awaitable[bool]]) -> int:
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    with cancelled_by_signals():
        try:
            return 0 if await run(console) else 1
        except StackError as error:
            console.print(str(error), style="red", markup=False)
            return 1
        except asyncio.CancelledError:
            console.print("stopped")
            return INTERRUPTED
