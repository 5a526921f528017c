"""An agent of ldp survives its worker's death and its own."""

import json
from pathlib import Path

import pytest

from tests.support.cli import start


@pytest.mark.alone
@pytest.mark.timeout(300)
async def test_an_agent_of_ldp_survives(tmp_path: Path) -> None:
    """Its trajectory is that of a run in peace, and no step is asked twice but where nobody knows an outcome."""
    process = await start("--out", str(tmp_path / "verdict.json"), program=("-m", "tests.harness.ldp_agent"))
    _, err = await process.communicate()
    assert process.returncode == 0, err
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert (verdict["steps"], verdict["requests"], verdict["attempts of unknown outcome"]) == (5, 6, 1)
