"""The call's ledger for the Temporal UI: a Markdown table under "current details", without prompt text.

The UI gets it by a query, so it costs no event. It is written again whenever the ledger changes.
"""

from collections.abc import Sequence
from typing import Final

from durable_llm.contract.ledger import Attempt, Intervention, clip, usd

FIRST_ROWS: Final = 5
LAST_ROWS: Final = 15
LAST_TOLD: Final = 5
_MESSAGE_BYTES: Final = 120

_HARMLESS: Final[dict[int, str]] = {
    ord(letter): harmless
    for letter, harmless in (("|", "\\|"), ("<", "("), (">", ")"), ("`", "'"), ("[", "("), ("]", ")"))
}
_HEAD = "| # | model | result | decision | waited | cost |\n|---|---|---|---|---|---|\n"


def current_details(entries: Sequence[Attempt], activity: str, interventions: Sequence[Intervention] = ()) -> str:
    """What the call is doing, a table of its attempts (the first 5 and the last 15), and what operators told it."""
    told = "".join(_told(each) for each in interventions[-LAST_TOLD:])
    if not entries:
        return _plain(activity) + told
    hidden = len(entries) - FIRST_ROWS - LAST_ROWS
    shown = [*entries[:FIRST_ROWS], *entries[-LAST_ROWS:]] if hidden > 0 else entries
    rows = "".join(_row(entry) for entry in shown)
    more = f"\n{hidden} attempts between the first {FIRST_ROWS} and the last {LAST_ROWS} are not shown.\n"
    return f"**{_plain(activity)}**\n\n{_HEAD}{rows}{more if hidden > 0 else ''}{told}"


def _told(each: Intervention) -> str:
    who = f" by {each.by}" if each.by else ""
    why = f": {clip(each.why, _MESSAGE_BYTES)}" if each.why else ""
    return (
        "\n"
        + _plain(f"{each.at:%Y-%m-%d %H:%M:%S} UTC, after attempt {each.after_attempt}: {each.action}{who}{why}")
        + "\n"
    )


def _row(entry: Attempt) -> str:
    waited = f"{entry.delay_s:.1f} s" if entry.delay_s is not None else ""
    cost = usd(entry.cost) if entry.outcome else ""
    cells = (str(entry.number), entry.model, _result(entry), entry.decision or "", waited, cost)
    return f"| {' | '.join(_plain(cell) for cell in cells)} |\n"


def _result(entry: Attempt) -> str:
    if entry.outcome is None:
        return f"under way, by quota {entry.quota}" if entry.quota else "under way"
    if entry.category is None:
        return entry.outcome
    return f"{entry.category}: {clip(entry.message, _MESSAGE_BYTES)}" if entry.message else entry.category


def _plain(text: str) -> str:
    """Text that cannot end its cell or become a link or HTML."""
    return " ".join(text.split()).translate(_HARMLESS)
