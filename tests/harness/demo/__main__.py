"""`python -m tests.harness.demo`: run the demo, show what happened, exit with 0 when every rule holds."""

import argparse
import asyncio
from functools import partial
from pathlib import Path

from rich.console import Console

from tests.harness.demo import report
from tests.harness.demo.kills import run_job_with_kills
from tests.harness.demo.processes import Processes
from tests.harness.demo.progress import Progress
from tests.harness.parts.program import run_program
from tests.harness.parts.report import show_verdict


async def run(folder: Path, keep: bool, console: Console) -> bool:
    """Run the demo; with `keep`, leave everything up until Ctrl-C. Returns whether every rule holds."""
    report.show_script(console)
    progress = Progress(lambda line: console.print(line, markup=False))
    async with Processes(folder, progress.say) as processes:
        console.print(f"         watch it in Temporal's UI: {report.ui_link(processes.ui_url, processes.run)}")
        following = asyncio.create_task(progress.follow(processes.dispatcher, processes.run))
        try:
            await run_job_with_kills(processes)
            await following
        finally:
            following.cancel()
        await report.show_calls(processes.dispatcher, processes.run, console)
        verdict = await processes.verify()
        show_verdict(verdict, console)
        progress.say(f"done; verdict: {'passed' if verdict.passed else 'FAILED'}, in {folder / 'verdict.json'}")
        if keep:
            await _keep(processes, console)
    return verdict.passed


async def _keep(processes: Processes, console: Console) -> None:
    console.print(f"Temporal's UI stays up until Ctrl-C: {report.ui_link(processes.ui_url, processes.run)}")
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
    run_program(partial(run, given.folder, given.keep))
