"""What a reader shows is the answer, whatever is killed."""

import pytest
from rich.console import Console

from tests.harness.stream_chaos import run


@pytest.mark.proof
@pytest.mark.timeout(600)
async def test_streams_survive_killed_workers_and_readers() -> None:
    """Every screen ends with the call's answer, which is what its model says; what was lost was withdrawn."""
    counts = await run(24, Console())
    assert not counts.wrong
    assert counts.withdrawn
    assert counts.readers_killed
    assert counts.workers_killed
