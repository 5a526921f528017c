"""What a measurement found: rows as a table for a terminal and for a page, and the figures in a file."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

Row = Sequence[str]


def terminal(headings: Row, rows: Iterable[Row]) -> Table:
    """For a terminal."""
    table = Table(*headings)
    for row in rows:
        table.add_row(*row)
    return table


def markdown(headings: Row, rows: Iterable[Row]) -> str:
    """For a page."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (headings, ["---"] * len(headings), *rows))


def save(report: Path, figures: Any) -> None:
    """Write the figures as JSON."""
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(figures, indent=1))
