"""`python -m tests.harness.chaos`: run it, show the figures, exit with 0 when every rule held and was put to the test."""

import argparse
from functools import partial
from pathlib import Path

from rich.console import Console

from tests.harness.chaos.director import Director
from tests.harness.chaos.report import show_figures
from tests.harness.chaos.size import FULL, SHORT, Size
from tests.harness.chaos.stage import Stage
from tests.harness.parts.program import leave
from tests.harness.parts.report import show_verdict
from tests.harness.parts.teller import Teller


async def run(folder: Path, size: Size, console: Console) -> bool:
    """Run the chaos. Whether the checker is satisfied."""
    teller = Teller(lambda line: console.print(line, markup=False))
    async with Stage(folder, teller.say, size) as stage:
        await Director(stage).play()
        teller.say("the job has ended; the checker recounts")
        verdict = await stage.judge()
    show_figures(verdict, console)
    show_verdict(verdict, console)
    teller.say(f"the end; verdict: {'passed' if verdict.passed else 'FAILED'}, in {folder / 'verdict.json'}")
    return verdict.passed


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.harness.chaos", description="Calls while everything dies.")
    parser.add_argument("--short", action="store_true", help=f"{SHORT.calls} calls and fewer kills")
    parser.add_argument("--folder", type=Path, default=Path(".durable-llm/chaos"), help="where the run's files go")
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    leave(partial(run, given.folder, SHORT if given.short else FULL))
