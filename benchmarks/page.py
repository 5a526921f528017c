"""`make bench-page`: puts measurements of this machine into docs/benchmarks.md, each between its two marks."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from benchmarks import crowd, front, growth, streams
from benchmarks.report import BAR_HEADINGS, HEADINGS, REPORT, Report, bar_rows, rows
from benchmarks.tables import markdown

PAGE: Final = Path("docs/benchmarks.md")


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


def filled(page: str, blocks: Iterable[tuple[str, str]]) -> str:
    """The page with each block between its marks."""
    for name, block in blocks:
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n{block}\n\n{end}{rest.partition(end)[2]}"
    return page


BLOCKS: Final = (
    ("make bench", REPORT, bench), ("make bench-growth", growth.REPORT, grown),
    ("make bench-crowd", crowd.REPORT, crowded), ("make bench-streams", streams.REPORT, streamed),
    ("make bench-front", front.REPORT, fronted),
)  # fmt: skip


if __name__ == "__main__":
    blocks = [(name, block()) for name, path, block in BLOCKS if path.exists()]
    PAGE.write_text(filled(PAGE.read_text(), blocks))
