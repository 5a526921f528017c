"""Where a call goes on when an operator has interfered: pure functions of its progress."""

from collections.abc import Sequence
from dataclasses import replace

from .decide import Progress


def skipped(progress: Progress) -> Progress:
    """At the next model of this round; `progress.has_next` must be true."""
    following = progress.next_index
    return progress if following is None else progress.at_model(following)


def resumed(progress: Progress) -> Progress:
    """At the first attempt on the first model, with all retries, as a call begins; only attempts are still counted."""
    return Progress(budgets=progress.budgets, attempts=progress.attempts, attempts_before=progress.attempts)


def given_up(progress: Progress) -> Progress:
    """After an attempt that the call itself has ended: it counts, and uses no retry."""
    return replace(progress, attempts=progress.attempts + 1, tries=progress.tries + 1)


def extended(progress: Progress, by_s: float) -> Progress:
    """With a deadline that is this many seconds later. The policy's patience is as long as before."""
    began_s = progress.patience_began_s
    return progress if began_s is None else replace(progress, patience_began_s=began_s + by_s)


def rechained(progress: Progress, kept: int, budgets: Sequence[int]) -> Progress:
    """With other models behind the first `kept` ones.

    Args:
        progress: Where the call is; its model is among those that stay, unless none does.
        kept: How many models of the chain stay.
        budgets: `max_retries` of the others.
    """
    return replace(
        progress,
        budgets=(*progress.budgets[:kept], *budgets),
        retry_after={index: wait for index, wait in progress.retry_after.items() if index < kept},
        failures={index: category for index, category in progress.failures.items() if index < kept},
        skipped=frozenset(index for index in progress.skipped if index < kept),
    )
