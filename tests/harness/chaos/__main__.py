"""`python -m tests.harness.chaos`: run it, show the figures, exit with 0 when every rule held."""

import argparse
from functools import partial
from pathlib import Path

from rich.console import Console

from tests.harness.chaos.kills import KillSchedule
from tests.harness.chaos.processes import Processes
from tests.harness.chaos.report import show_figures
from tests.harness.chaos.size import FULL, SHORT, Size
from tests.harness.parts.log import Log
from tests.harness.parts.program import run_program
from tests.harness.parts.report import show_verdict


async def run(folder: Path, size: Size, console: Console) -> bool:
    """Run it. Returns whether every rule held."""
    log = Log(lambda line: console.print(line, markup=False))
    async with Processes(folder, log.say, size) as processes:
        await KillSchedule(processes).run()
        log.say("the job has ended; the checker counts")
        verdict = await processes.verify()
    show_figures(verdict, console)
    show_verdict(verdict, console)
    log.say(f"done; verdict: {'passed' if verdict.passed else 'FAILED'}, in {folder / 'verdict.json'}")
    return verdict.passed


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.harness.chaos", description="Calls while processes are killed."
    )
    parser.add_argument("--short", action="store_true", help=f"{SHORT.calls} calls and fewer kills")
    parser.add_argument("--folder", type=Path, default=Path(".durable-llm/chaos"), help="where the run's files go")
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    run_program(partial(run, given.folder, SHORT if given.short else FULL))
