"""What `make bench` found: read, shown as a table, held against the bars, and put into docs/benchmarks.md.

`python -m benchmarks.report bars | page`
"""

import json
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

REPORT: Final = Path(".durable-llm/bench/report.json")
PAGE: Final = Path("docs/benchmarks.md")
MARKS: Final = ("<!-- measured: make bench-page -->", "<!-- end of what was measured -->")

FLOOR: Final = "Temporal's floor"
OURS: Final = "durable-llm"
RIVAL: Final = "pydantic-ai on Temporal"


@dataclass(frozen=True)
class Round:
    """One contestant in one round.

    Attributes:
        alone_p50_ms: Median time of a call with one caller.
        rate_per_s: Calls a second with 100 callers.
        p50_ms: Median time of a call with 100 callers.
        p99_ms: 99th percentile of the same.
        cpu_ms: CPU time of a call with 100 callers, by process.
    """

    alone_p50_ms: float
    rate_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: Mapping[str, float]


@dataclass(frozen=True)
class Report:
    """All rounds of each contestant, the floor first."""

    machine: Mapping[str, str | int | None]
    rounds: Mapping[str, Sequence[Round]]

    @property
    def medians(self) -> dict[str, Round]:
        """Each contestant's figures, each the median of the rounds."""
        return {name: median(rounds) for name, rounds in self.rounds.items()}


def median(rounds: Sequence[Round]) -> Round:
    """Each figure's median."""
    return Round(
        alone_p50_ms=statistics.median(one.alone_p50_ms for one in rounds),
        rate_per_s=statistics.median(one.rate_per_s for one in rounds),
        p50_ms=statistics.median(one.p50_ms for one in rounds),
        p99_ms=statistics.median(one.p99_ms for one in rounds),
        cpu_ms={name: statistics.median(one.cpu_ms[name] for one in rounds) for name in rounds[0].cpu_ms},
    )


def load() -> Report:
    """The last report.

    Raises:
        SystemExit: There is none.
    """
    if not REPORT.exists():
        raise SystemExit(f"There is no {REPORT}: run `make bench` first.")
    read = json.loads(REPORT.read_text())
    rounds = {name: [Round(**one) for one in rounds] for name, rounds in read["rounds"].items()}
    return Report(read["machine"], rounds)


HEADINGS: Final = (
    "", "p50, one caller", "of the floor", "calls/s, 100 callers", "of the floor", "p99/p50", "CPU ms a call",
    "server", "worker", "caller",
)  # fmt: skip


def rows(report: Report) -> Iterable[tuple[str, ...]]:
    """The table's rows, as HEADINGS names the columns."""
    medians = report.medians
    floor = medians[FLOOR]
    for name, one in medians.items():
        parts = (f"{one.cpu_ms[part]:.1f}" if part in one.cpu_ms else "" for part in ("server", "worker", "caller"))
        yield (
            name, f"{one.alone_p50_ms:.1f} ms", f"{one.alone_p50_ms / floor.alone_p50_ms:.2f}",
            f"{one.rate_per_s:.0f}", f"{one.rate_per_s / floor.rate_per_s:.2f}", f"{one.p99_ms / one.p50_ms:.2f}",
            f"{sum(one.cpu_ms.values()):.1f}", *parts,
        )  # fmt: skip


def show(report: Report) -> Table:
    """The table for a terminal."""
    table = Table(*HEADINGS)
    for row in rows(report):
        table.add_row(*row)
    return table


@dataclass(frozen=True)
class Bar:
    """A stated bar and what was measured."""

    name: str
    value: float
    sign: str
    bar: float

    @property
    def met(self) -> bool:
        """Whether the bar holds."""
        return self.value <= self.bar if self.sign == "≤" else self.value >= self.bar


def bars(report: Report) -> list[Bar]:
    """The bars that this project sets itself."""
    medians = report.medians
    floor, ours, rival = medians[FLOOR], medians[OURS], medians[RIVAL]
    return [
        Bar("p50 of one caller, of the floor's", ours.alone_p50_ms / floor.alone_p50_ms, "≤", 1.3),
        Bar("rate of 100 callers, of the floor's", ours.rate_per_s / floor.rate_per_s, "≥", 0.85),
        Bar("rate of 100 callers, of pydantic-ai's durable agent", ours.rate_per_s / rival.rate_per_s, "≥", 3.0),
        Bar("p99 / p50 of 100 callers", ours.p99_ms / ours.p50_ms, "≤", 3.0),
    ]


def markdown(report: Report) -> str:
    """The table, the bars and a plot, for docs/benchmarks.md."""
    table = [f"| {' | '.join(row)} |" for row in (HEADINGS, ["---"] * len(HEADINGS), *rows(report))]
    held = [f"| {one.name} | {one.value:.2f} | {one.sign} {one.bar:g} | {'yes' if one.met else 'no'} |"
            for one in bars(report)]  # fmt: skip
    names = ", ".join(f'"{name}"' for name in report.rounds)
    cost = ", ".join(f"{sum(one.cpu_ms.values()):.1f}" for one in report.medians.values())
    plot = [
        "```mermaid", "xychart-beta horizontal", '    title "CPU of a call, all processes together, ms"',
        f"    x-axis [{names}]", f"    bar [{cost}]", "```",
    ]  # fmt: skip
    told = ", ".join(f"{name.replace('_gib', ', GiB')} {value}" for name, value in report.machine.items())
    count = len(next(iter(report.rounds.values())))
    lines = [
        f"{count} rounds on: {told}.", "", *table, "", "| Bar | Measured | Wanted | Met |", "| --- | --- | --- | --- |",
        *held, "", *plot,
    ]  # fmt: skip
    return "\n".join(lines)


def write_page(report: Report) -> None:
    """Put what was measured between the page's marks."""
    before, _, rest = PAGE.read_text().partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    PAGE.write_text(f"{before}{MARKS[0]}\n\n{markdown(report)}\n\n{MARKS[1]}{after}")


def check(report: Report) -> int:
    """Print each bar, and return 0 if all are met."""
    table = Table("bar", "measured", "wanted", "")
    for one in bars(report):
        table.add_row(one.name, f"{one.value:.2f}", f"{one.sign} {one.bar:g}", "met" if one.met else "missed")
    Console().print(table)
    return 0 if all(one.met for one in bars(report)) else 1


if __name__ == "__main__":
    if sys.argv[1:] == ["page"]:
        write_page(load())
    else:
        sys.exit(check(load()))
