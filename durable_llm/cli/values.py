"""The small notations of the command line: durations, moments, and key=value pairs.

What was written is never repeated in an error: it may be a key that landed in the wrong place.
"""

import json
import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final, NoReturn

from durable_llm.client.checks import Deadline
from durable_llm.errors import InvalidRequestError

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART = r"(\d+(?:\.\d+)?)(ms|[smhd])"
_DURATION = re.compile(rf"(?:{_PART})+", re.ASCII)
_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)


def is_duration(text: str) -> bool:
    """Whether `text` is written as a duration with units: 90s, 15m, 1h30m."""
    return _DURATION.fullmatch(text) is not None


def duration(option: str, text: str) -> timedelta:
    """Parse 90, 90s, 15m, 24h, 2d or 1h30m; a bare number is seconds.

    Raises:
        InvalidRequestError: it is none of these, or zero, or more than a datetime can hold.
    """
    if is_duration(text):
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in re.findall(_PART, text))
    elif _NUMBER.fullmatch(text):
        seconds = float(text)
    else:
        raise InvalidRequestError(f"{option}: expected a duration like 90s, 15m, 24h or 1h30m")
    try:
        return _above_zero(option, timedelta(seconds=seconds))
    except OverflowError:
        raise InvalidRequestError(f"{option}: the duration is too long") from None


def _above_zero(option: str, length: timedelta) -> timedelta:
    if length <= timedelta(0):
        raise InvalidRequestError(f"{option}: expected a duration above zero")
    return length


def deadline(option: str, text: str) -> Deadline:
    """Parse a duration, or a moment in ISO 8601 with its time zone.

    Raises:
        InvalidRequestError: it is neither.
    """
    try:
        moment = datetime.fromisoformat(text) if "-" in text else None
    except ValueError:
        raise InvalidRequestError(
            f"{option}: expected a duration like 30m, or a moment like 2030-01-31T12:00Z"
        ) from None
    if moment is None:
        return duration(option, text)
    if moment.tzinfo is None:
        raise InvalidRequestError(f"{option}: the moment has no time zone; write it like 2030-01-31T12:00Z")
    return moment


def pairs(option: str, texts: Iterable[str] | None) -> dict[str, str]:
    """Parse key=value; the last of a key wins.

    Raises:
        InvalidRequestError: one has no key or no '='.
    """
    split = [text.partition("=") for text in texts or ()]
    if not all(key and equals for key, equals, _ in split):
        raise InvalidRequestError(f"{option}: expected key=value")
    return {key: value for key, _, value in split}


def json_or_text(text: str) -> Any:
    """A value written as JSON, or else the text itself: 0.2, true, ["a"], high."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def _refuse(constant: str) -> NoReturn:
    """NaN and Infinity are Python's, not JSON's."""
    raise ValueError(constant)
