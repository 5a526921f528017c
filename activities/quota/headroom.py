"""How much of its limit a provider says is left, from the headers of a response."""

from collections.abc import Mapping
from typing import Final

_KINDS: Final = (
    "x-ratelimit-{}-requests", "x-ratelimit-{}-tokens",
    "anthropic-ratelimit-requests-{}", "anthropic-ratelimit-tokens-{}",
    "anthropic-ratelimit-input-tokens-{}", "anthropic-ratelimit-output-tokens-{}",
)  # fmt: skip
"""OpenAI's names, which most compatible providers use, and Anthropic's; both as their API references of 2026 say."""


def headroom_of(headers: Mapping[str, str]) -> float | None:
    """The smallest share that is left of any limit, from 0 to 1. None: the headers do not say.

    Args:
        headers: With lower-case names.
    """
    shares = []
    for kind in _KINDS:
        try:
            limit, remaining = (float(headers[kind.format(what)]) for what in ("limit", "remaining"))
        except (KeyError, ValueError):
            continue
        if limit > 0:
            shares.append(min(max(remaining / limit, 0.0), 1.0))
    return min(shares, default=None)
