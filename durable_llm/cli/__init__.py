"""The command line `durable-llm`.

Typer only parses. A command returns a coroutine, and `program.main` runs it outside Typer, so that one place turns
every ending into an exit code.
"""

from durable_llm.cli.program import main

__all__ = ["main"]
