"""How programs of ours leave: a few ways, run once; `make exits` runs all of them again and again."""

import pytest
from temporalio.testing import WorkflowEnvironment

from benchmarks.exits import COMMAND_LINE, LEAVING, WORKING, Program, by_itself, run_all, stage
from durable_llm.cli.exits import Exit


def test_each_exit_code_of_the_command_line_is_run() -> None:
    """A code that no run leaves with is a code that nobody has seen; an unexpected error has no way to be run."""
    assert {program.status for program in COMMAND_LINE} == set(Exit) - {Exit.INTERNAL}


@pytest.mark.timeout(300)
async def test_a_program_leaves_with_the_status_that_it_means(server_env: WorkflowEnvironment) -> None:
    """Whatever a program did and however it was told to stop, its status says so, and no interpreter crashes."""
    few = {Exit.OK, Exit.FAILED, Exit.RETRYABLE, Exit.INTERRUPTED, Exit.READER_GONE}
    one_each = {program.status: program for program in COMMAND_LINE if program.status in few}
    async with stage(server_env.client.service_client.config.target_host, "exits") as (provider, env):
        ended = await run_all([*one_each.values(), *LEAVING, WORKING[-1]], provider, env)
    assert [run for run in ended if not run.right] == []


@pytest.mark.parametrize(
    "program", ["import os; os.abort()", "import sys; sys.exit(9)", "print('Fatal Python error: none')"]
)
async def test_a_crash_is_told_from_an_end(program: str) -> None:
    """The check can fail: a signal, another status, and a crash that is only told."""
    [run] = await run_all([Program("a crash", ("-c", program), 0, by_itself, {})], "", {})
    assert not run.right
