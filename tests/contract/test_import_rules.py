"""The code's parts import each other one way, as the list says, and the architecture page shows that list."""

import pytest

from tests.contract.import_rules import (
    ARROWS,
    ROOMS,
    cycle_in,
    imported_modules,
    module_graph,
    part_graph,
    picture,
    reachable,
    sources,
)
from tests.support import ROOT


@pytest.mark.parametrize("part", ARROWS)
def test_a_part_imports_only_what_its_arrows_lead_to(part: str) -> None:
    """A new arrow is a decision: it is put on the list first."""
    assert part_graph()[part] <= reachable(part)


@pytest.mark.parametrize("part", ARROWS)
def test_each_arrow_is_an_import(part: str) -> None:
    """An arrow that no import needs would say that two parts have to do with each other."""
    assert ARROWS[part] <= part_graph()[part]


def test_the_list_names_no_part_that_is_gone() -> None:
    """A stranger reads the list as a table of contents."""
    assert set(ARROWS) == set(part_graph())


def test_the_allowed_arrows_have_no_cycle() -> None:
    """Of two parts that import each other, neither can be read alone."""
    assert not cycle_in(ARROWS)


def test_no_modules_import_each_other() -> None:
    """Neither at their top nor inside a function: that only hides the cycle."""
    assert not cycle_in(module_graph())


def test_a_cycle_is_found() -> None:
    """The search itself: a loop over several modules is named."""
    assert set(cycle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}})) == {"b", "c"}
    assert not cycle_in({"a": {"b", "c"}, "b": {"c"}, "c": set()})


def test_workflows_and_activities_stay_apart() -> None:
    """The workflow must be deterministic, the attempt must not: they share the contract and nothing else."""
    for part in ARROWS:
        rooms = {other.partition(".")[0] for other in reachable(part)}
        if part.startswith("workflows."):
            assert not rooms & {"activities", "workers"}
        if part.startswith("activities."):
            assert not rooms & {"workflows", "workers"}


def test_only_the_activities_import_litellm() -> None:
    """Litellm takes seconds to import and reads the environment: it lives on its own side."""
    for room in ROOMS:
        for path in sources(room):
            if "litellm" in {name.partition(".")[0] for name in imported_modules(path)}:
                assert path.relative_to(ROOT).as_posix() in (
                    "activities/litellm_setup.py",
                    "activities/litellm_openai.py",
                    "durable_llm/adapters/lmi.py",  # lmi brings its own, and its results hold litellm's objects
                )


def test_the_policy_knows_no_temporal_no_clock_and_no_randomness() -> None:
    """A simulation and a report use the policy as it is."""
    for path in sources("workflows/policy"):
        forbidden = {"temporalio", "time", "datetime", "random", "asyncio", "os", "litellm"}
        assert not {name.partition(".")[0] for name in imported_modules(path)} & forbidden, path


def test_the_architecture_page_shows_the_arrows() -> None:
    """The picture in docs/architecture.md is printed by `python -m tests.contract.import_rules`."""
    assert picture() in (ROOT / "docs" / "architecture.md").read_text()
