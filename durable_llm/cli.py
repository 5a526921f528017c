"""The command line `durable-llm`."""

import asyncio
import os
import sys
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, NoReturn

import typer
from rich.console import Console
from temporalio.service import RPCError

from durable_llm import __version__, search_attributes
from durable_llm.connection import connect_client, translate
from durable_llm.errors import DurableLLMError

EXIT_FAILED = 1
EXIT_UNAVAILABLE = 3

app = typer.Typer(no_args_is_help=True, help="Durable LLM calls on Temporal.")
console = Console(highlight=False)


@app.command()
def version() -> None:
    """Print the version."""
    console.print(__version__)


@app.command()
def setup() -> None:
    """Register the search attributes in the namespace that TEMPORAL_* names; harmless to repeat."""
    _leave(_setup())


async def _setup() -> int:
    client = await connect_client(wait=timedelta(seconds=10))
    try:
        absent = await search_attributes.missing(client)
        if absent:
            await search_attributes.register(client)
    except RPCError as error:
        raise translate(error, client) from None
    done = f"registered {', '.join(absent)}" if absent else "all search attributes were there"
    console.print(f"namespace {client.namespace!r}: {done}", soft_wrap=True)
    return 0


def _leave(program: Coroutine[Any, Any, int]) -> NoReturn:
    """Run a command and leave by os._exit: the SDK's threads can abort an interpreter at its own exit."""
    status = EXIT_FAILED
    try:
        status = asyncio.run(program)
    except DurableLLMError as error:
        status = EXIT_UNAVAILABLE
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  # a plain line that no terminal width wraps
    except KeyboardInterrupt:
        status = 130
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    """Entry point of the `durable-llm` program."""
    app()
