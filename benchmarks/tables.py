"""The same rows as a table for a terminal and for a page."""

from collections.abc import Iterable, Sequence

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
