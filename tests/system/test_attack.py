"""What a caller wrote cannot freeze the workers."""

import pytest

from tests.harness.attack import ATTACKS, run


@pytest.mark.alone
async def test_a_fleet_serves_others_beside_twenty_runaway_patterns() -> None:
    """Every bystander gets an answer, no worker ends, and each stops when it is told to."""
    assert await run(ATTACKS[:1]) == 0
