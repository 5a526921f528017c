"""The table of answers names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
TABLE = (TESTS.parent / "docs" / "answers.md").read_text().partition("## ")[0]
NAMED = sorted(set(re.findall(r"`(test_\w+\.py(?:::\w+)?)`", TABLE)))
ROWS = [line for line in TABLE.splitlines() if line.startswith("| ")][1:]


@pytest.mark.parametrize("name", NAMED)
def test_a_named_test_exists(name: str) -> None:
    """`file`, or `file::test`: a renamed test takes its row along."""
    file, _, test = name.partition("::")
    path = TESTS / file
    assert path.exists()
    tree = ast.parse(path.read_text())
    found = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert not test or test in found


@pytest.mark.parametrize("row", ROWS, ids=[row.split("|")[1].strip() for row in ROWS])
def test_a_row_has_its_columns(row: str) -> None:
    """What, its state, its test, and its test with a killed worker."""
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert len(cells) == 4
    assert all(cells)
