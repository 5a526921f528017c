"""What a reader shows is the answer, whatever is killed."""

import pytest
from rich.console import Console

from tests.harness.stream_chaos import run
from tests.support.stream_places import PLACES


@pytest.mark.alone
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", PLACES)
async def test_streams_survive_killed_workers_and_readers(kind: str) -> None:
    """Every screen ends with the call's answer, which is what its model says; what was lost was withdrawn."""
    counts = await run(kind, 4, Console())
    assert not counts.wrong
    assert counts.withdrawn
    assert counts.readers_killed
    assert counts.workers_killed
