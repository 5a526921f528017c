"""`python -m tests.harness.demo`: run the demo, show what happened, exit with 0 when the checker is satisfied."""

import argparse
import asyncio
from functools import partial
from pathlib import Path

from rich.console import Console

from tests.harness.demo import report
from tests.harness.demo.director import play
from tests.harness.demo.narrator import Narrator
from tests.harness.demo.stage import Stage
from tests.harness.parts.program import leave
from tests.harness.parts.report import show_verdict


async def run(folder: Path, keep: bool, console: Console) -> bool:
    """Run the demo; with `keep`, leave everything up until Ctrl-C. Whether the checker is satisfied."""
    report.show_script(console)
    narrator = Narrator(lambda line: console.print(line, markup=False))
    async with Stage(folder, narrator.say) as stage:
        console.print(f"         watch it in Temporal's UI: {report.ui_link(stage.ui_url, stage.run)}")
        telling = asyncio.create_task(narrator.follow(stage.dispatcher, stage.run))
        try:
            await play(stage)
            await telling
        finally:
            telling.cancel()
        await report.show_calls(stage.dispatcher, stage.run, console)
        verdict = await stage.judge()
        show_verdict(verdict, console)
        narrator.say(f"the end; verdict: {'passed' if verdict.passed else 'FAILED'}, in {folder / 'verdict.json'}")
        if keep:
            await _keep(stage, console)
    return verdict.passed


async def _keep(stage: Stage, console: Console) -> None:
    console.print(f"Temporal's UI stays up until Ctrl-C: {report.ui_link(stage.ui_url, stage.run)}")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        console.print("stopping everything ...")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.harness.demo", description="See durable-llm at work.")
    parser.add_argument("--keep", action="store_true", help="leave Temporal and its UI up until Ctrl-C")
    parser.add_argument("--folder", type=Path, default=Path(".durable-llm/demo"), help="where the run's files go")
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    leave(partial(run, given.folder, given.keep))
