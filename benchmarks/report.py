"""What `make bench` found, as rows and held against the bars. `make bench-bars` runs this."""

import json
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks.tables import Row, terminal

REPORT: Final = Path(".durable-llm/bench/report.json")

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

    @classmethod
    def load(cls) -> "Report":
        """The last report.

        Raises:
            SystemExit: There is none, or it is of a part.
        """
        if not REPORT.exists():
            raise SystemExit(f"There is no {REPORT}: run `make bench` first.")
        read = json.loads(REPORT.read_text())
        rounds = {name: [Round(**one) for one in rounds] for name, rounds in read["rounds"].items()}
        if not {FLOOR, OURS, RIVAL} <= rounds.keys():
            raise SystemExit(f"{REPORT} is of a run with --only: run `make bench` first.")
        return cls(read["machine"], rounds)

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


HEADINGS: Final = (
    "", "p50, one caller", "of the floor", "calls/s, 100 callers", "of the floor", "p99/p50", "CPU ms a call",
    "server", "worker", "caller",
)  # fmt: skip


def rows(report: Report) -> Iterable[Row]:
    """One row for each contestant, as HEADINGS names the columns."""
    medians = report.medians
    floor = next(iter(medians.values()))
    for name, one in medians.items():
        parts = (f"{one.cpu_ms[part]:.1f}" if part in one.cpu_ms else "" for part in ("server", "worker", "caller"))
        yield (
            name, f"{one.alone_p50_ms:.1f} ms", f"{one.alone_p50_ms / floor.alone_p50_ms:.2f}",
            f"{one.rate_per_s:.0f}", f"{one.rate_per_s / floor.rate_per_s:.2f}", f"{one.p99_ms / one.p50_ms:.2f}",
            f"{sum(one.cpu_ms.values()):.1f}", *parts,
        )  # fmt: skip


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


BAR_HEADINGS: Final = ("bar", "measured", "wanted", "")


def bar_rows(report: Report) -> Iterable[Row]:
    """One row for each bar, as BAR_HEADINGS names the columns."""
    for one in bars(report):
        yield one.name, f"{one.value:.2f}", f"{one.sign} {one.bar:g}", "met" if one.met else "missed"


if __name__ == "__main__":
    last = Report.load()
    Console().print(terminal(BAR_HEADINGS, bar_rows(last)))
    sys.exit(0 if all(one.met for one in bars(last)) else 1)
