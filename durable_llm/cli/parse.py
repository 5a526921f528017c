"""Parse what the command line says: durations, moments, key=value pairs, and files, or stdin where the name is '-'.

An error names the option, and the place in a file. It never repeats what was written: that may be a key in the wrong
place.
"""

import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, NoReturn

import yaml  # type: ignore[import-untyped]  # its annotations are a package of their own

from durable_llm.client.checks import Deadline
from durable_llm.errors import InvalidRequestError

STDIN: Final = Path("-")

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART = r"(\d+(?:\.\d+)?)(ms|[smhd])"
_DURATION = re.compile(rf"(?:{_PART})+", re.ASCII)
_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)


def is_duration(text: str) -> bool:
    """Whether `text` is written as a duration with units: 90s, 15m, 1h30m."""
    return _DURATION.fullmatch(text) is not None


def duration(option: str, text: str) -> timedelta:
    """Parse 90, 90s, 15m, 24h, 2d or 1h30m. A bare number is in seconds.

    Raises:
        InvalidRequestError: another notation, zero, or more than a timedelta can hold.
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
        InvalidRequestError: neither of them.
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
    """Parse key=value. The last value of a key wins.

    Raises:
        InvalidRequestError: no key, or no '='.
    """
    split = [text.partition("=") for text in texts or ()]
    if not all(key and equals for key, equals, _ in split):
        raise InvalidRequestError(f"{option}: expected key=value")
    return {key: value for key, _, value in split}


def json_or_text(text: str) -> Any:
    """A JSON value, or the text itself where it is not JSON: 0.2, true, ["a"], high."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def _refuse(constant: str) -> NoReturn:
    """NaN and Infinity are Python's, not JSON's."""
    raise ValueError(constant)


def read_text(option: str, path: Path) -> str:
    """The file's text, in UTF-8, without the line breaks at its end that editors and `echo` add.

    Raises:
        InvalidRequestError: the file cannot be read or is not UTF-8.
    """
    try:
        raw = sys.stdin.buffer.read() if path == STDIN else path.read_bytes()
        return raw.decode("utf-8-sig").rstrip("\r\n")
    except OSError as error:
        raise InvalidRequestError(f"{option}: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"{option}: {path} is not UTF-8 text (byte {error.start})") from None


def read_json(option: str, path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        InvalidRequestError: the file cannot be read or is not JSON.
    """
    return _parsed(option, path, _json)


def read_config(option: str, path: Path) -> Any:
    """What a YAML, TOML or JSON file holds. Its suffix says which.

    Raises:
        InvalidRequestError: another suffix, or the file cannot be read or parsed.
    """
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise InvalidRequestError(f"{option}: expected a file that ends in {', '.join(_PARSERS)}")
    return _parsed(option, path, parse)


def _parsed(option: str, path: Path, parse: Callable[[str], Any]) -> Any:
    text = read_text(option, path)
    try:
        return parse(text)
    except RecursionError:
        raise InvalidRequestError(f"{option}: {path} is nested too deeply") from None
    except ValueError as error:
        raise InvalidRequestError(f"{option}: {path} is not valid: {error}") from None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} (line {error.lineno}, column {error.colno})") from None


def _yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark  # the error's own text quotes the line
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise ValueError(f"{error.problem or 'no YAML'}{place}") from None
    except yaml.YAMLError:
        raise ValueError("it has characters that YAML does not allow") from None


_PARSERS: Final[Mapping[str, Callable[[str], Any]]] = {
    ".yaml": _yaml,
    ".yml": _yaml,
    ".toml": tomllib.loads,
    ".json": _json,
}
