"""The pages that make claims name tests that exist: docs/answers.md and docs/guarantees.md."""

import ast
import re

import pytest

from tests.support import ROOT

DOCS = ROOT / "docs"
TESTS = {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}
ANSWERS = (DOCS / "answers.md").read_text().partition("## ")[0]
GUARANTEES = (DOCS / "guarantees.md").read_text().partition("## Not guaranteed")[0]
NAMED = sorted(set(re.findall(r"`(test_\w+\.py(?:::\w+)?)`", ANSWERS + GUARANTEES)))
CLAIMS = [(4, line) for line in ANSWERS.splitlines()] + [(2, line) for line in GUARANTEES.splitlines()]
ROWS = [(columns, line) for columns, line in CLAIMS if line.startswith("| ") and "`" in line]


@pytest.mark.parametrize("name", NAMED)
def test_a_named_test_exists(name: str) -> None:
    """`file`, or `file::test`: a renamed test takes its row along."""
    file, _, test = name.partition("::")
    tree = ast.parse(TESTS[file].read_text())
    found = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert not test or test in found


@pytest.mark.parametrize(("columns", "row"), ROWS, ids=[row.split("|")[1].strip() for _, row in ROWS])
def test_a_row_names_its_tests(columns: int, row: str) -> None:
    """Every column says something, and the last one names a test."""
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert len(cells) == columns
    assert all(cells)
    assert "`test_" in cells[-1]


def test_every_claim_is_a_row() -> None:
    """A line of either table without a test would be a claim that nobody shows."""
    heads = ("what is asked for", "guaranteed", "---")
    claims = [line for _, line in CLAIMS if line.startswith("|") and not line.strip("| ").startswith(heads)]
    assert claims == [row for _, row in ROWS]
