"""Parse how long a provider asked to wait, from every place where providers say it.

The result is always a finite number of seconds from 0 to LONGEST_WAIT_S, or None. A wait of NaN seconds would block a
call forever.
"""

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple

LONGEST_WAIT_S: Final = 30 * 86_400.0
"""Longer waits are cut to this, which is too long for any policy."""

_ABSURD_S: Final = 10 * 366 * 86_400.0
"""A wait of more than ten years, or one that ended more than a day ago, says nothing."""

_EPOCH_S: Final = 1e9
_EPOCH_MS: Final = 1e12
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_NUMBER = re.compile(r"\d+(?:\.\d+)?|\.\d+")
_AMOUNT = r"(?:\d+(?:\.\d+)?|\.\d+)"
_UNIT = r"(?:ms|milliseconds?|s|sec(?:ond)?s?|m|min(?:ute)?s?|h|hours?|d|days?)(?![a-z])"
_PART = re.compile(rf"({_AMOUNT})\s*({_UNIT})\s*", re.IGNORECASE)
_TEXT = re.compile(
    rf"(?:try\s+again|retry|wait|available|resets?)\s+(?:again\s+)?(?:(?:in|after|for)\s+)?(?:about\s+)?"
    rf"((?:{_AMOUNT}\s*{_UNIT}\s*)+)",
    re.IGNORECASE,
)
_FIELDS: Final = ("retryDelay", "retry_after_ms", "retry_after_seconds", "retry_after", "retryAfter")


class Wait(NamedTuple):
    """Seconds, and their source: a header's name, a body field, or "text"."""

    seconds: float
    source: str


def parse(headers: Mapping[str, str], body: Any, text: str, now: datetime) -> Wait | None:
    """The wait that a failed response asks for. The most explicit source wins.

    Args:
        headers: With lower-case names.
        body: The body's JSON value. None: it has none.
        text: The provider's message.
        now: The current time, with a time zone. Dates count from it.
    """
    candidates = (_headers, _body, _text, _resets)
    for look in candidates:
        for wait in look(headers, body, text, now):
            return Wait(min(max(wait.seconds, 0.0), LONGEST_WAIT_S), wait.source)
    return None


def delay_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The raw headers about waiting: at most 20, each cut to 100 characters."""
    named = {name: value[:100] for name, value in headers.items() if "retry" in name or "ratelimit" in name}
    return dict(list(named.items())[:20])


def seconds_of(value: Any, now: datetime) -> float | None:
    """Seconds of a number, a duration ("6m0s"), an HTTP date, an RFC 3339 date or an epoch. None: other or absurd."""
    seconds = _seconds_of(str(value).strip().strip('"')[:100], now)
    return seconds if seconds is not None and -86_400.0 <= seconds <= _ABSURD_S else None


def _seconds_of(text: str, now: datetime) -> float | None:
    if _NUMBER.fullmatch(text):
        return _from_number(float(text), now)
    parts = list(_PART.finditer(text))
    if parts and "".join(part.group(0) for part in parts).strip() == text:
        return sum(float(part.group(1)) * _unit(part.group(2)) for part in parts)
    return _from_date(text, now)


def _from_number(number: float, now: datetime) -> float | None:
    """Seconds of a number. A number of an epoch's size is an epoch."""
    if not math.isfinite(number):
        return None
    if number >= _EPOCH_MS:
        return number / 1000 - now.timestamp()
    return number - now.timestamp() if number >= _EPOCH_S else number


def _unit(text: str) -> float:
    low = text.lower()
    return _UNITS["ms"] if low.startswith(("ms", "millisec")) else _UNITS[low[0]]


def _from_date(text: str, now: datetime) -> float | None:
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            moment = read(text)
            aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return (aware - now).total_seconds()
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
    return None


def _headers(headers: Mapping[str, str], _body: Any, _text: str, now: datetime) -> Iterator[Wait]:
    for name, scale in (("retry-after-ms", 0.001), ("x-ms-retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if scale != 1.0 and _NUMBER.fullmatch(value):
            if float(value) * scale <= _ABSURD_S:
                yield Wait(float(value) * scale, name)
        elif scale == 1.0 and (seconds := seconds_of(value, now)) is not None:
            yield Wait(seconds, name)


def _body(_headers: Mapping[str, str], body: Any, _text: str, now: datetime) -> Iterator[Wait]:
    """Google's RetryInfo, and the fields of others, anywhere in an error body."""
    for name, value in _leaves(body, depth=6):
        if name in _FIELDS and isinstance(value, str | int | float) and not isinstance(value, bool):
            seconds = seconds_of(value, now)
            if seconds is not None:
                yield Wait(seconds / 1000 if name.endswith("_ms") else seconds, name)


def _leaves(value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    if depth == 0:
        return
    if isinstance(value, dict):
        for name, inner in value.items():
            yield str(name), inner
            yield from _leaves(inner, depth - 1)
    elif isinstance(value, list):
        for inner in value[:50]:
            yield from _leaves(inner, depth - 1)


def _text(_headers: Mapping[str, str], _body: Any, text: str, now: datetime) -> Iterator[Wait]:
    for match in _TEXT.finditer(text[:10_000]):
        if (seconds := seconds_of(match.group(1), now)) is not None:
            yield Wait(seconds, "text")


def _resets(headers: Mapping[str, str], body: Any, _text: str, now: datetime) -> Iterator[Wait]:
    """The end of a rate limit's window. The last of the used-up windows counts, or a single window of unknown state."""
    known = {**_nested_headers(body), **headers}
    windows = [window for name in known if (window := _window(known, name, now)) is not None]
    spent = [wait for wait, remaining in windows if remaining == "0"]
    unsaid = [wait for wait, remaining in windows if remaining is None]
    if spent:
        yield max(spent)
    elif len(windows) == len(unsaid) == 1:
        yield unsaid[0]


def _window(headers: Mapping[str, str], name: str, now: datetime) -> tuple[Wait, str | None] | None:
    """A reset header's wait and what its window has left. None: another header, or a time in the past."""
    if "ratelimit" not in name or "reset" not in name:
        return None
    seconds = seconds_of(headers[name], now)
    if seconds is None or seconds < 0:
        return None
    remaining = headers.get(name.replace("reset", "remaining"))
    return Wait(seconds, name), remaining.strip() if remaining is not None else None


def _nested_headers(body: Any) -> dict[str, str]:
    """Headers that OpenRouter repeats in its error bodies."""
    error = body.get("error") if isinstance(body, dict) else None
    metadata = error.get("metadata") if isinstance(error, dict) else None
    nested = metadata.get("headers") if isinstance(metadata, dict) else None
    return {str(k).lower(): str(v) for k, v in nested.items()} if isinstance(nested, dict) else {}
