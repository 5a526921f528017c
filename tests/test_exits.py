"""A caller's program ends as it says: no run dies of the SDK's threads while its interpreter goes down."""

from collections.abc import AsyncIterator

import pytest

from benchmarks.exits import KINDS, Kind, statuses
from workers.dev_server import DevServer, ServerOptions

RUNS = 8


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[DevServer]:
    """A server for programs that end."""
    async with DevServer(ServerOptions(port=0, ui_port=None, data=None)) as server:
        yield server


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_programs_leave_with_the_right_status(server: DevServer, kind: Kind) -> None:
    """Each of a few runs, of the many that the benchmark makes."""
    assert await statuses(kind, server.env, RUNS) == {kind.expected: RUNS}
