"""What a command prints on stdout: one JSON document for a script, a text or a table for people."""

import re
import sys
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer
from pydantic_core import to_json
from rich.console import Console, RenderableType

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

_NO_TERMINAL_WIDTH: Final = 1000
"""Width of a table outside a terminal: a script that cuts columns needs whole ids."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """How a command prints its result."""

    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, for an error too.")] = (
        False
    )

    def give(self, data: Any, human: RenderableType) -> None:
        """Print `data` for a script or `human` for people. A text is not wrapped."""
        if self.as_json:
            write_json(data)
        elif isinstance(human, str):
            typer.echo(plain(human) if sys.stdout.isatty() else human)
        else:
            _console(stderr=False).print(human)


def write_json(data: Any) -> None:
    """Print `data`, which may hold pydantic models, as the one document on stdout."""
    typer.echo(to_json(data, indent=2, inf_nan_mode="null"))


def plain(text: str) -> str:
    """`text` without control characters: no model and no provider may control the terminal."""
    return _CONTROL.sub("", text)


def error_console() -> Console:
    """A console on stderr, for people."""
    return _console(stderr=True)


def live_console() -> Console:
    """A console on stdout, for what is refreshed in place."""
    return _console(stderr=False)


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _NO_TERMINAL_WIDTH
    return console
