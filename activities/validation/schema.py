"""Check an answer against its JSON Schema, in bounded time.

A caller writes the schema and a model writes the value. Together they could keep a thread busy for ever, or hold
Python's lock inside a regular expression. So every keyword looks at a deadline, and every pattern is searched for by an
engine with a time limit that lets other threads run.
"""

import json
import math
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
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

PATTERN_TIMEOUT_S: Final = 2.0
"""Time limit in seconds of one regular expression."""

CHECK_TIMEOUT_S: Final = 2.0
"""Time limit in seconds of one check of a value."""

_SLOTS: Final = threading.BoundedSemaphore(2)
"""Checks at once in one process: each competes with the event loop for Python's lock."""

_DEADLINE: ContextVar[float] = ContextVar("deadline", default=math.inf)

Keyword = Callable[[Any, Any, Any, Any], "Iterable[ValidationError] | None"]
"""Evaluates one keyword: validator, the keyword's value, the instance, the schema around it."""

_PATTERN_NAME: Final = "patternProperties"
_UNSAFE: Final = "unevaluatedProperties"
_REASON_BYTES: Final = 200
_FENCED = re.compile(r"```[A-Za-z0-9_-]*[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL)


def search(pattern: str, text: str) -> bool:
    """Whether `pattern` matches in `text`.

    Raises:
        TimeoutError: the search took too long.
    """
    left = min(PATTERN_TIMEOUT_S, _DEADLINE.get() - time.monotonic())
    if left <= 0:
        raise TimeoutError
    return regex.search(pattern, text, timeout=left, concurrent=True) is not None


def read_json(text: str) -> tuple[str, Any]:
    """The JSON in an answer, as text and as value.

    It is the complete text, or the one fenced block in it, which models without a JSON mode often write.

    Raises:
        Rejected: no JSON, or more than one block.
    """
    fenced = _FENCED.findall(text)
    for candidate in (text, *(fenced if len(fenced) == 1 else ())):
        try:
            return candidate.strip(), json.loads(candidate, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            continue
    raise Rejected("the text is not JSON")


class AnswerSchema:
    """A valid JSON Schema.

    Raises:
        ValueError: it is invalid, or a reference leads outside it; says where.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._validator = _compiled(json.dumps(schema))

    def check(self, value: Any) -> None:
        """Check a JSON value against the schema.

        Raises:
            Rejected: it does not follow the schema, is nested too deeply, or takes a pattern too long. Says where and
                why, without the value.
        """
        with _SLOTS:
            token = _DEADLINE.set(time.monotonic() + CHECK_TIMEOUT_S)
            try:
                error = best_match(self._validator.iter_errors(value))
                reason = _reason(error) if error is not None else None
            except RecursionError:
                reason = "the value is nested too deeply to be checked"
            except TimeoutError:
                reason = f"the value cannot be checked against the schema within {CHECK_TIMEOUT_S:g} s"
            except BaseException as error:
                # At the end of the stack, the registry's Rust code panics instead of raising RecursionError.
                if type(error).__name__ != "PanicException":
                    raise
                reason = "the value is nested too deeply to be checked"
            finally:
                _DEADLINE.reset(token)
        if reason is not None:
            raise Rejected(reason)


@lru_cache(maxsize=256)
def _compiled(text: str) -> Validator:
    """The compiled schema, cached for all attempts and calls with the same schema."""
    schema = json.loads(text)
    kind = validators.validator_for(schema, default=Draft202012Validator)
    error = best_match(kind(kind.META_SCHEMA).iter_errors(schema))
    if error is not None:
        raise ValueError(f"{error.json_path}: {clip(error.message, _REASON_BYTES)}")
    _check_strings(schema)
    keywords = {**kind.VALIDATORS, **_OURS}
    bounded = {name: _bounded(keyword) for name, keyword in keywords.items()}
    ours = validators.extend(kind, bounded)  # type: ignore[no-untyped-call]  # its stub has no types
    # With this registry it fetches nothing. Otherwise a reference to an address would make the worker request it.
    compiled: Validator = ours(schema, registry=Registry())
    return compiled


def _check_strings(schema: Any) -> None:
    """Check that references stay inside the schema and that patterns are valid."""
    resolver = Registry().with_resource("", DRAFT202012.create_resource(schema)).resolver()
    for keyword, value in _strings(schema):
        try:
            if keyword in ("$ref", "$dynamicRef"):
                resolver.lookup(value)
            elif keyword in ("pattern", _PATTERN_NAME):
                regex.compile(value)
            elif keyword == _UNSAFE:
                raise ValueError("unevaluatedProperties beside patternProperties cannot be checked; use one of them")
        except Unresolvable:
            raise ValueError(f"{keyword} {clip(value, 100)!r} leads nowhere inside the schema") from None
        except regex.error as error:
            raise ValueError(f"pattern {clip(value, 100)!r}: {error}") from None


def _strings(node: Any) -> Iterator[tuple[str, str]]:
    """Keywords with a text, among them the patterns of property names and what cannot be bounded."""
    if isinstance(node, Mapping):
        if isinstance(patterns := node.get("patternProperties"), Mapping):
            yield from ((_PATTERN_NAME, pattern) for pattern in patterns)
            if "unevaluatedProperties" in node:  # jsonschema would search with Python's own engine
                yield _UNSAFE, ""
        for keyword, value in node.items():
            if isinstance(value, str):
                yield keyword, value
            yield from _strings(value)
    elif isinstance(node, list):
        for value in node:
            yield from _strings(value)


def _bounded(keyword: Keyword) -> Keyword:
    """`keyword`, which gives up when the check has taken too long."""

    def bounded(validator: Validator, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        if time.monotonic() > _DEADLINE.get():
            raise TimeoutError
        yield from keyword(validator, value, instance, schema) or ()

    return bounded


def _pattern_properties(validator: Any, patterns: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "object"):
        for pattern, subschema in patterns.items():
            for name, value in instance.items():
                if search(pattern, name):
                    yield from validator.descend(value, subschema, path=name, schema_path=pattern)


def _additional_properties(validator: Any, allowed: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    extra = [name for name in instance if name not in known and not any(search(each, name) for each in patterns)]
    if validator.is_type(allowed, "object"):
        for name in extra:
            yield from validator.descend(instance[name], allowed, path=name)
    elif not allowed and extra:
        shown = ", ".join(map(repr, extra[:5]))
        yield ValidationError(
            f"Additional properties are not allowed ({shown} {'were' if extra[1:] else 'was'} unexpected)"
        )


def _unique_items(validator: Any, unique: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if unique and validator.is_type(instance, "array"):
        texts = [json.dumps(item, sort_keys=True) for item in instance]  # jsonschema compares each with each
        if len(set(texts)) < len(texts):
            yield ValidationError(f"{instance!r} has non-unique elements")


def _pattern(validator: Validator, pattern: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not search(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


_OURS: Final[Mapping[str, Keyword]] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}
"""Keywords that jsonschema evaluates without a bound: with Python's own regular expressions, or each item with each."""


def _reason(error: ValidationError) -> str:
    message = error.message.replace(repr(error.instance), "the value", 1)
    return clip(f"{error.json_path}: {message}", _REASON_BYTES)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
