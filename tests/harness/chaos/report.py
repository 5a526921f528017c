"""The figures at the end."""

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tests.harness.chaos.figures import ChaosVerdict


def show_figures(verdict: ChaosVerdict, console: Console) -> None:
    """Print what the checker counted."""
    kills, resumed = verdict.kills, verdict.resumed
    table = Table("counted", "", box=SIMPLE_HEAD)
    for label, value in {
        "calls submitted": verdict.calls,
        "calls lost": verdict.calls_lost,
        "calls ended": _listed(verdict.calls_ended),
        "requests in the journal": verdict.requests,
        "attempts in the histories": f"{verdict.attempts}, {verdict.attempts_without_request} without a request",
        "attempts of unknown outcome": _listed(verdict.attempts_unknown),
        "answers served": verdict.answers_served,
        "answers paid for again": _listed(verdict.answers_paid_again),
        "workers killed": f"{kills.worker}, {kills.worker_with_requests_open} with requests open",
        "server killed": kills.server,
        "job killed": kills.job,
        "attempts lost with a worker": resumed.attempts,
        "kill to next attempt": f"median {resumed.median_after_kill_s} s, longest {resumed.longest_after_kill_s} s",
        "notice to next attempt": (
            f"longest {resumed.longest_after_notice_s} s, allowed {resumed.allowed_after_notice_s:g} s "
            f"(a decision took up to {resumed.decision_s:g} s)"
        ),
    }.items():
        table.add_row(label, str(value))
    console.print(table)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
