"""`python -m examples.demo`: run the demo, show what happened, exit with 0 when the checker is satisfied."""

import argparse
import asyncio
import os
import sys
from pathlib import Path

from rich.console import Console

from examples.demo import report
from examples.demo.director import Director
from examples.demo.narrator import Narrator
from examples.demo.stage import Stage
from workers.children import StackError, cancelled_by_signals

INTERRUPTED = 130

_PLAIN_WIDTH = 100
"""Columns of output that goes to a file."""


async def main(folder: Path, keep: bool) -> int:
    """Run the demo; with `keep`, leave everything up until Ctrl-C."""
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    with cancelled_by_signals():
        try:
            return await _run(folder, keep, console)
        except StackError as error:
            console.print(str(error), style="red", markup=False)
            return 1
        except asyncio.CancelledError:
            console.print("stopped")
            return INTERRUPTED


async def _run(folder: Path, keep: bool, console: Console) -> int:
    report.show_script(console)
    narrator = Narrator(lambda line: console.print(line, markup=False))
    async with Stage(folder, narrator.say) as stage:
        director = Director(stage)
        console.print(f"         watch it in Temporal's UI: {report.ui_link(stage.ui_url, stage.run)}")
        telling = asyncio.create_task(narrator.follow(stage.dispatcher, stage.run))
        try:
            await director.play()
            await telling
        finally:
            telling.cancel()
        await report.show_calls(stage.dispatcher, stage.run, console)
        verdict = await stage.check(director.kills)
        report.show_verdict(verdict, console)
        narrator.say(f"the end; verdict: {'passed' if verdict.passed else 'FAILED'}, in {folder / 'verdict.json'}")
        if keep:
            await _keep(stage, console)
    return 0 if verdict.passed else 1


async def _keep(stage: Stage, console: Console) -> None:
    console.print(f"Temporal's UI stays up until Ctrl-C: {report.ui_link(stage.ui_url, stage.run)}")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        console.print("stopping everything ...")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description="See durable-llm at work.")
    parser.add_argument("--keep", action="store_true", help="leave Temporal and its UI up until Ctrl-C")
    parser.add_argument("--folder", type=Path, default=Path(".durable-llm/demo"), help="where the run's files go")
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    code = asyncio.run(main(given.folder, given.keep))
    sys.stdout.flush()
    os._exit(code)  # the SDK's threads may abort an interpreter that tears itself down
