"""`make bench-page`: puts measurements of this machine into their pages of docs/, each between its two marks."""

import json
from pathlib import Path
from typing import Final

from benchmarks import crowd, footprint, front, growth, quotas, shares, simulation, streams
from benchmarks.report import BAR_HEADINGS, HEADINGS, REPORT, Report, bar_rows, rows
from benchmarks.tables import markdown

BENCHMARKS: Final = Path("docs/benchmarks.md")
SCALING: Final = Path("docs/scaling.md")


def bench() -> str:
    """What `make bench` found."""
    report = Report.load()
    machine = report.machine
    on = (
        f"{machine['cores']} cores of {machine['processor']}, {machine['memory_gib']} GiB, {machine['system']}, "
        f"Python {machine['python']}; medians of {len(next(iter(report.rounds.values())))} rounds"
    )
    return "\n\n".join([on, markdown(HEADINGS, rows(report)), markdown(BAR_HEADINGS, bar_rows(report)), plot(report)])


def plot(report: Report) -> str:
    """The CPU time of a call as bars."""
    medians = report.medians
    names = ", ".join(f'"{name.removesuffix(" (not durable)")}"' for name in medians)
    cost = ", ".join(f"{sum(one.cpu_ms.values()):.1f}" for one in medians.values())
    lines = [
        "```mermaid", "xychart-beta horizontal", '    title "CPU time of a call in ms: server, worker and caller"',
        f"    x-axis [{names}]", f"    bar [{cost}]", "```",
    ]  # fmt: skip
    return "\n".join(lines)


def grown() -> str:
    """What `make bench-growth` found."""
    read = json.loads(growth.REPORT.read_text())
    found = growth.Growth(**{**read, "calls": [growth.GrownCall(**call) for call in read["calls"]]})
    queries = growth.queries_text(found)
    return f"{markdown(growth.HEADINGS, growth.rows(found))}\n\n{queries}"


def crowded() -> str:
    """What `make bench-crowd` found."""
    return markdown(crowd.HEADINGS, crowd.rows(crowd.Crowd(**json.loads(crowd.REPORT.read_text()))))


def streamed() -> str:
    """What `make bench-streams` found."""
    return markdown(
        streams.HEADINGS, streams.rows(streams.Measured(**one) for one in json.loads(streams.REPORT.read_text()))
    )


def fronted() -> str:
    """What `make bench-front` found."""
    return markdown(front.HEADINGS, front.rows(front.Measured(**one) for one in json.loads(front.REPORT.read_text())))


def kept() -> str:
    """What `make bench-quotas` found."""
    return markdown(quotas.HEADINGS, [quotas.Found(**one).row() for one in json.loads(quotas.REPORT.read_text())])


def shared() -> str:
    """What `make bench-shares` found."""
    read = json.loads(shares.REPORT.read_text())
    return "\n\n".join([
        markdown(shares.SHARED_HEADINGS, [shares.Shared(**read["shares"]).row()]),
        markdown(shares.SPENT_HEADINGS, [shares.Spent(**one).row() for one in read["budget"]]),
    ])  # fmt: skip


def left() -> str:
    """What `make bench-footprint` found."""
    found = [footprint.Footprint(**one) for one in json.loads(footprint.REPORT.read_text())]
    return markdown(footprint.HEADINGS, footprint.rows(found))


def simulated() -> str:
    """What `make simulate` found."""
    found = [simulation.Found(**one) for one in json.loads(simulation.REPORT.read_text())]
    return markdown(simulation.HEADINGS, simulation.rows(found))


def filled(page: str, name: str, block: str) -> str:
    """The page with a block between its marks."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, _, rest = page.partition(begin)
    return f"{before}{begin}\n{block}\n\n{end}{rest.partition(end)[2]}"


BLOCKS: Final = (
    ("make bench", BENCHMARKS, REPORT, bench), ("make bench-growth", BENCHMARKS, growth.REPORT, grown),
    ("make bench-crowd", BENCHMARKS, crowd.REPORT, crowded),
    ("make bench-streams", BENCHMARKS, streams.REPORT, streamed),
    ("make bench-front", BENCHMARKS, front.REPORT, fronted), ("make bench-quotas", BENCHMARKS, quotas.REPORT, kept),
    ("make bench-shares", BENCHMARKS, shares.REPORT, shared),
    ("make bench-footprint", SCALING, footprint.REPORT, left), ("make simulate", SCALING, simulation.REPORT, simulated),
)  # fmt: skip


if __name__ == "__main__":
    for name, page, report, block in BLOCKS:
        if report.exists():
            page.write_text(filled(page.read_text(), name, block()))
