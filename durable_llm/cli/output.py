"""What goes to stdout: one JSON document for a script, or a text or a table for people. All else goes to stderr."""

import re
import sys
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer
from pydantic_core import to_json
from rich.console import Console, RenderableType

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

_NO_TERMINAL_WIDTH: Final = 1000
"""Where no terminal limits a line, a table takes what it needs: a script that cuts columns wants whole ids."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """How a command gives its outcome."""

    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on stdout, for an error too; all else on stderr.")
    ] = False

    def give(self, data: Any, human: RenderableType) -> None:
        """Write `data` for a script or `human` for people; a text is written as it is, without wrapping."""
        if self.as_json:
            write_json(data)
        elif isinstance(human, str):
            typer.echo(plain(human) if sys.stdout.isatty() else human)
        else:
            _console(stderr=False).print(human)


def write_json(data: Any) -> None:
    """Write `data`, pydantic models within, as the one document on stdout."""
    typer.echo(to_json(data, indent=2, inf_nan_mode="null"))


def plain(text: str) -> str:
    """`text` without control characters: what a model or a provider wrote must not steer a terminal."""
    return _CONTROL.sub("", text)


def error_console() -> Console:
    """A console on stderr, for people."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _NO_TERMINAL_WIDTH
    return console
