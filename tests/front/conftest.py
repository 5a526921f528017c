"""What tests of the front begin with."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.front.serving import FILE


@pytest.fixture
def chains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The operator's file of chains."""
    (tmp_path / "chains.yaml").write_text(yaml.safe_dump(FILE))
    monkeypatch.setenv("DURABLE_LLM_CHAINS", str(tmp_path / "chains.yaml"))
    return FILE
