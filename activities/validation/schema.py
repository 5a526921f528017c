"""An answer held against the JSON Schema that it was asked to follow."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import regex
from jsonschema import Draft202012Validator, ValidationError, validators
from jsonschema.exceptions import best_match
from jsonschema.protocols import Validator
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from durable_llm.contract.ledger import clip
from durable_llm.contract.validation import Rejected

PATTERN_TIMEOUT_S: Final = 5.0
"""Seconds that one regular expression may take: with Python's own, a caller's could stop the whole worker."""

_REASON_BYTES: Final = 200
_FENCED = re.compile(r"```[A-Za-z0-9_-]*[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL)


def search(pattern: str, text: str) -> bool:
    """Whether `pattern` is found in `text`.

    Raises:
        TimeoutError: nobody knows; the search took too long.
    """
    return regex.search(pattern, text, timeout=PATTERN_TIMEOUT_S, concurrent=True) is not None


def read_json(text: str) -> tuple[str, Any]:
    """The JSON in an answer, as text and as value.

    A text that is one JSON value is taken as it is; else the one fenced block in it is, as models without a JSON mode
    like to write it.

    Raises:
        Rejected: there is none, or more than one.
    """
    fenced = _FENCED.findall(text)
    for candidate in (text, *(fenced if len(fenced) == 1 else ())):
        try:
            return candidate.strip(), json.loads(candidate, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            continue
    raise Rejected("the text is not JSON")


class AnswerSchema:
    """A JSON Schema that is one.

    Raises:
        ValueError: it is none, or refers to what it does not hold; says where.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._validator = _compiled(json.dumps(schema))

    def check(self, value: Any) -> None:
        """Hold a JSON value against the schema.

        Raises:
            Rejected: it does not fit; says where and why, without repeating the value. So does one that is nested too
                deeply, or that keeps a pattern busy too long: the model wrote it, and its next answer may be simpler.
        """
        try:
            error = best_match(self._validator.iter_errors(value))
            reason = _reason(error) if error is not None else None
        except RecursionError:
            reason = "the value is nested too deeply to be checked"
        except TimeoutError:
            reason = f"a pattern cannot be searched for in a value within {PATTERN_TIMEOUT_S:g} s"
        if reason is not None:
            raise Rejected(reason)


@lru_cache(maxsize=256)
def _compiled(text: str) -> Validator:
    """Compiled once for all attempts of a call, and of calls like it."""
    schema = json.loads(text)
    kind = validators.validator_for(schema, default=Draft202012Validator)
    error = best_match(kind(kind.META_SCHEMA).iter_errors(schema))
    if error is not None:
        raise ValueError(f"{error.json_path}: {clip(error.message, _REASON_BYTES)}")
    _check_strings(schema)
    ours = validators.extend(kind, {"pattern": _pattern})  # type: ignore[no-untyped-call]  # its stub has no types
    # With a registry of its own it fetches nothing: a reference to an address would have the worker ask it.
    compiled: Validator = ours(schema, registry=Registry())
    return compiled


def _check_strings(schema: Any) -> None:
    """See that references lead somewhere inside the schema, and that patterns can be searched for."""
    resolver = Registry().with_resource("", DRAFT202012.create_resource(schema)).resolver()
    for keyword, value in _strings(schema):
        try:
            if keyword in ("$ref", "$dynamicRef"):
                resolver.lookup(value)
            elif keyword == "pattern":
                regex.compile(value)
        except Unresolvable:
            raise ValueError(f"{keyword} {clip(value, 100)!r} leads nowhere inside the schema") from None
        except regex.error as error:
            raise ValueError(f"pattern {clip(value, 100)!r}: {error}") from None


def _strings(node: Any) -> Iterator[tuple[str, str]]:
    if isinstance(node, Mapping):
        for keyword, value in node.items():
            if isinstance(value, str):
                yield keyword, value
            yield from _strings(value)
    elif isinstance(node, list):
        for value in node:
            yield from _strings(value)


def _pattern(validator: Validator, pattern: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not search(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _reason(error: ValidationError) -> str:
    message = error.message.replace(repr(error.instance), "the value", 1)
    return clip(f"{error.json_path}: {message}", _REASON_BYTES)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
