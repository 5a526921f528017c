"""The ledger: one `Attempt` per request to a provider, bounded in size and in number.

A call may make a thousand attempts, and Temporal limits the size of results, errors and query answers, which carry the
ledger. So an entry is at most 1 KB, and a ledger shows the first 20 and the last 180 entries; its totals cover all.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pydantic import Field
from pydantic_core import to_json

from durable_llm.contract.categories import Action, Category, Outcome
from durable_llm.contract.wire import Wire

ENTRY_BYTES: Final = 1024
FIRST_ENTRIES: Final = 20
LAST_ENTRIES: Final = 180
LAST_INTERVENTIONS: Final = 50
_SECONDS_AND: Final = " s, "


class Usage(Wire):
    """Tokens of one answer, as the provider counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cache_read_tokens: int = 0
    """Prompt tokens that came from the provider's cache."""
    cache_creation_tokens: int = 0
    """Prompt tokens that were written to the provider's cache."""


class Attempt(Wire):
    """One request to a provider: what was asked, how it ended, and what the call did next."""

    number: int
    """1 for the call's first attempt."""
    model: str
    spec_index: int
    """Index of the model in the chain, from 0."""
    try_number: int
    """1 for the first attempt on this model."""
    started_at: datetime | None = None
    duration_s: float | None = None
    """Seconds; None while it runs or when nobody saw its end."""
    outcome: Outcome | str | None = None
    """None while it runs."""
    category: Category | str | None = None
    """What kind of failure it is."""
    http_status: int | None = None
    error_code: str | None = None
    """The provider's own code."""
    message: str | None = None
    """The provider's words, without keys and without prompt text."""
    decision: Action | str | None = None
    """What the call did next; None after an answer."""
    rule: str | None = None
    """The rule that decided."""
    delay_s: float | None = None
    """Seconds waited before the next attempt; None when there was no wait."""
    delay_reason: str | None = None
    request_id: str | None = None
    """The provider's id of the request."""
    response_id: str | None = None
    """The provider's id of the answer; for a background response, also before it has ended."""
    usage: Usage | None = None
    """Tokens, if the provider counted them; a rejected answer has them too."""
    cost: float | None = None
    """USD; None when unknown, 0.0 only when nothing can have been billed."""
    quota: str | None = None
    """The quota in whose queue the attempt waited for its turn."""
    waited_s: float | None = None
    """Seconds that it waited there, from `started_at` on."""


_CLIPPED: Final = {
    "model": 100, "error_code": 60, "rule": 60, "delay_reason": 100, "request_id": 80, "response_id": 100,
}  # fmt: skip
"""Bytes that each text may take inside JSON; the message gets what is left."""


def bounded(entry: Attempt) -> Attempt:
    """`entry` with its texts clipped so that its JSON is at most ENTRY_BYTES."""
    clipped = {name: _clip_json(value, size) for name, size in _CLIPPED.items() if (value := getattr(entry, name))}
    entry = entry.model_copy(update=clipped)
    if entry.message is None:
        return entry
    spare = ENTRY_BYTES - len(entry.model_copy(update={"message": ""}).model_dump_json().encode())
    return entry.model_copy(update={"message": _clip_json(entry.message, max(spare, 0))})


def _clip_json(text: str, size: int) -> str:
    """`text` cut to at most `size` bytes inside JSON; unprintable characters become spaces."""
    text = "".join(letter if letter.isprintable() else " " for letter in text[:ENTRY_BYTES])
    while text and (taken := len(to_json(text)) - len('""')) > size:
        raw = len(text.encode())
        text = clip(text, min(raw - 1, raw * size // taken))  # escapes take more than they show
    return text


def wait_summary(seconds: float, reason: str) -> str:
    """Summary of a wait's timer in the history: how long, and why."""
    return f"{seconds:.1f}{_SECONDS_AND}{reason}"


def reason_of(summary: str) -> str:
    """The reason in a wait's summary."""
    return summary.partition(_SECONDS_AND)[2]


def clip(text: str, size: int) -> str:
    """`text` cut to at most `size` UTF-8 bytes, with an ellipsis if something was cut."""
    raw = text.encode(errors="replace")
    if len(raw) <= size:
        return raw.decode()
    return raw[: max(0, size - 3)].decode(errors="ignore") + ("…" if size >= 3 else "")


class Intervention(Wire):
    """What an operator told the call."""

    at: datetime
    action: str
    """Name of the update: "retry", "skip", "replace", "pause", "resume", "extend" or "end"."""
    by: str = ""
    why: str = ""
    after_attempt: int = 0
    """Number of the call's newest attempt at that moment; 0 before the first."""


class Ledger(Wire):
    """What a call did: bounded entries, and totals over all attempts."""

    attempts: list[Attempt] = Field(default_factory=list)
    """The first 20 and the last 180."""
    attempts_total: int = 0
    attempts_by_category: dict[str, int] = Field(default_factory=dict)
    """How many attempts failed, by category."""
    total_cost: float = 0.0
    """USD, the known part of all attempts."""
    cost_complete: bool = True
    """Whether every attempt's cost is known."""
    interventions: list[Intervention] = Field(default_factory=list)
    """What operators told the call, the last 50."""


def bounded_entries(entries: Sequence[Attempt]) -> list[Attempt]:
    """The first 20 and the last 180 of `entries`."""
    if len(entries) <= FIRST_ENTRIES + LAST_ENTRIES:
        return list(entries)
    return [*entries[:FIRST_ENTRIES], *entries[-LAST_ENTRIES:]]


def shortened(ledger: Ledger, size: int) -> Ledger:
    """`ledger` without as many of its middle entries as must go for its JSON to take about `size` bytes."""
    entries = list(ledger.attempts)
    sizes = [len(entry.model_dump_json().encode()) + 1 for entry in entries]
    surplus = len(ledger.model_dump_json().encode()) - size
    while entries and surplus > 0:
        del entries[len(entries) // 2]
        surplus -= sizes.pop(len(sizes) // 2)
    return ledger.model_copy(update={"attempts": entries})


def usd(cost: float | None) -> str:
    """An amount in USD for people, "?" if it is unknown."""
    if cost is None:
        return "?"
    if 0 < cost < 1e-6:
        return "<$0.000001"
    return f"${cost:.6f}".rstrip("0").rstrip(".")
