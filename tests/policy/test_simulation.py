"""The simulation of docs/scaling.md, small: what the quota is for, with the policy's own code."""

import pytest

from benchmarks.simulation import WAYS, Found, Simulation

CALLS = 3_000


@pytest.fixture(scope="module")
def found() -> dict[str, Found]:
    """Each way, once."""
    return {way.name: Simulation(way, CALLS, seed=7).run() for way in WAYS}


def test_an_outage_loses_no_call_of_the_default_policy(found: dict[str, Found]) -> None:
    """With a quota and without; lmi's policy gives up within it."""
    assert [each.lost for each in found.values()][:3] == [0, 0, 0]
    assert found["lmi's policy"].lost > 0


def test_the_quota_spares_the_provider(found: dict[str, Found]) -> None:
    """Hardly a request is wasted on the outage, and afterwards no more than the quota comes at once."""
    with_quota, without = found["default, with the quota"], found["default, no quota declared"]
    assert with_quota.limited + with_quota.failed < CALLS / 50 < without.limited + without.failed
    assert with_quota.peak_after_outage <= 1.2 < without.peak_after_outage  # seconds of a small run are few requests
