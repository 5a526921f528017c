"""The command line `durable-llm`: calls that people and scripts make, look at, list and cancel.

Typer parses and our code runs: a command collects what it was given and returns a coroutine, which `program.main` runs
outside of Typer, so that one place maps every ending to an exit code.
"""

from durable_llm.cli.program import main

__all__ = ["main"]
