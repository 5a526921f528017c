"""An operator's night, as `make drill` plays it."""

import pytest

from tests.harness.drill import run


@pytest.mark.alone
async def test_no_call_is_lost_in_an_operators_night() -> None:
    """400 calls, a provider that fails for two minutes; skipped, parked, held, released; each answered exactly once."""
    assert await run() == 0
