"""Check an answer against its JSON Schema."""

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
"""Time limit in seconds of one regular expression. A caller's could block the worker otherwise."""

_REASON_BYTES: Final = 200
_FENCED = re.compile(r"```[A-Za-z0-9_-]*[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL)


def search(pattern: str, text: str) -> bool:
    """Whether `pattern` matches in `text`.

    Raises:
        TimeoutError: the search took too long.
    """
    return regex.search(pattern, text, timeout=PATTERN_TIMEOUT_S, concurrent=True) is not None


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
    """The compiled schema, cached for all attempts and calls with the same schema."""
    schema = json.loads(text)
    kind = validators.validator_for(schema, default=Draft202012Validator)
    error = best_match(kind(kind.META_SCHEMA).iter_errors(schema))
    if error is not None:
        raise ValueError(f"{error.json_path}: {clip(error.message, _REASON_BYTES)}")
    _check_strings(schema)
    ours = validators.extend(kind, {"pattern": _pattern})  # type: ignore[no-untyped-call]  # its stub has no types
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
