"""Files that a command reads: texts and data, from disk or, as '-', from stdin.

An error names the file and the place in it, never what stands there.
"""

import json
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml  # type: ignore[import-untyped]  # its annotations are a package of their own

from durable_llm.errors import InvalidRequestError

STDIN: Final = Path("-")


def read_text(option: str, path: Path) -> str:
    """The file's text, in UTF-8, without the line breaks at its end that editors and `echo` add.

    Raises:
        InvalidRequestError: the file cannot be read or is no UTF-8.
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
        InvalidRequestError: the file cannot be read or is no JSON.
    """
    return _parsed(option, path, _json)


def read_config(option: str, path: Path) -> Any:
    """What a YAML, TOML or JSON file holds; its name's ending says which.

    Raises:
        InvalidRequestError: another ending, or the file cannot be read or parsed.
    """
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise InvalidRequestError(f"{option}: expected a file whose name ends in {', '.join(_PARSERS)}")
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
        mark = error.problem_mark  # the error's own text would quote the line
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise ValueError(f"{error.problem or 'no YAML'}{place}") from None
    except yaml.YAMLError:
        raise ValueError("it holds characters that YAML does not allow") from None


_PARSERS: Final[Mapping[str, Callable[[str], Any]]] = {
    ".yaml": _yaml,
    ".yml": _yaml,
    ".toml": tomllib.loads,
    ".json": _json,
}
