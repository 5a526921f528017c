"""What many calls came to, from Temporal's list alone: no ledger is read."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from durable_llm.client.listing import CallRow


@dataclass(frozen=True)
class Figures:
    """Some calls together."""

    calls: int
    attempts: int
    seconds_p50: float | None
    """Half of the calls that have ended took at most this long, from submission to end. None: none has ended."""
    seconds_p95: float | None
    cost: float
    """USD, the known part."""
    cost_unknown: int
    """Calls of whose cost nothing is known."""


@dataclass(frozen=True)
class Stats:
    """Calls by what they came to, by the model that was asked last, and by the category of the last failure."""

    by_outcome: dict[str, Figures] = field(default_factory=dict)
    by_model: dict[str, Figures] = field(default_factory=dict)
    by_category: dict[str, Figures] = field(default_factory=dict)


def stats_of(rows: Sequence[CallRow]) -> Stats:
    """The figures of calls; the group with the most calls comes first."""
    return Stats(
        by_outcome=_grouped(rows, lambda row: row.outcome),
        by_model=_grouped(rows, lambda row: row.model),
        by_category=_grouped([row for row in rows if row.category is not None], lambda row: row.category),
    )


def _grouped(rows: Sequence[CallRow], key: Callable[[CallRow], str | None]) -> dict[str, Figures]:
    groups: dict[str, list[CallRow]] = defaultdict(list)
    for row in rows:
        groups[key(row) or "unknown"].append(row)
    return {name: figures_of(group) for name, group in sorted(groups.items(), key=lambda item: -len(item[1]))}


def figures_of(rows: Sequence[CallRow]) -> Figures:
    """The figures of one group."""
    took = sorted((row.ended_at - row.started_at).total_seconds() for row in rows if row.ended_at is not None)
    return Figures(
        calls=len(rows),
        attempts=sum(row.attempts or 0 for row in rows),
        seconds_p50=_rank(took, 0.5),
        seconds_p95=_rank(took, 0.95),
        cost=sum(row.cost or 0.0 for row in rows),
        cost_unknown=sum(row.cost is None for row in rows),
    )


def _rank(ordered: Sequence[float], share: float) -> float | None:
    """The nearest rank: the least value that is at least as large as this share of all."""
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else None
