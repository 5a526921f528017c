"""Check an answer against its JSON Schema. A caller writes the schema, so this runs in a child process."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from jsonschema import Draft202012Validator, ValidationError, validators
from jsonschema.exceptions import best_match
from jsonschema.protocols import Validator
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from durable_llm.contract.ledger import clip
from durable_llm.contract.validation import Rejected

CPU_S: Final = 2.0
"""Limit in seconds of CPU time for a check with a caller's schema or pattern."""

SCHEMA_CPU_S: Final = 10.0
"""The same for a check of the schema itself. One of 4,000 properties takes about a second."""

_REASON_BYTES: Final = 200
_FENCED = re.compile(r"```[A-Za-z0-9_-]*[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL)


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


def check_schema(schema: str) -> None:
    """Check a JSON Schema, written as JSON.

    Raises:
        ValueError: it is invalid, or a reference leads outside it; says where.
    """
    loaded = json.loads(schema)
    kind = validators.validator_for(loaded, default=Draft202012Validator)
    error = best_match(kind(kind.META_SCHEMA).iter_errors(loaded))
    if error is not None:
        raise ValueError(f"{error.json_path}: {clip(error.message, _REASON_BYTES)}")
    _check_strings(loaded)


def read_and_check(text: str, schema: str) -> tuple[str, Any]:
    """The JSON in an answer, as text and as value, checked against a valid schema, written as JSON.

    Raises:
        Rejected: no JSON, or it does not follow the schema, or is nested too deeply. Says where and why, without the
            value.
    """
    bare, value = read_json(text)
    validator = _compiled(schema)
    try:
        error = best_match(validator.iter_errors(value))
    except RecursionError:
        raise Rejected("the value is nested too deeply to be checked") from None
    except BaseException as fault:
        # At the end of the stack, the registry's Rust code panics instead of raising RecursionError.
        if type(fault).__name__ != "PanicException":
            raise
        raise Rejected("the value is nested too deeply to be checked") from None
    if error is not None:
        raise Rejected(_reason(error))
    return bare, value


@lru_cache(maxsize=256)
def _compiled(text: str) -> Validator:
    """The schema, ready to check with; kept for the calls that have the same one."""
    schema = json.loads(text)
    kind = validators.validator_for(schema, default=Draft202012Validator)
    ours = validators.extend(kind, {"uniqueItems": _unique_items})  # type: ignore[no-untyped-call]  # its stub has no types
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
                re.compile(value)
        except Unresolvable:
            raise ValueError(f"{keyword} {clip(value, 100)!r} leads nowhere inside the schema") from None
        except re.error as error:
            raise ValueError(f"pattern {clip(value, 100)!r}: {error}") from None


def _strings(node: Any) -> Iterator[tuple[str, str]]:
    """Keywords with a text, among them the patterns of property names."""
    if isinstance(node, Mapping):
        if isinstance(patterns := node.get("patternProperties"), Mapping):
            yield from (("pattern", pattern) for pattern in patterns)
        for keyword, value in node.items():
            if isinstance(value, str):
                yield keyword, value
            yield from _strings(value)
    elif isinstance(node, list):
        for value in node:
            yield from _strings(value)


def _unique_items(validator: Any, unique: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if unique and validator.is_type(instance, "array"):
        texts = [json.dumps(item, sort_keys=True) for item in instance]  # jsonschema compares each with each
        if len(set(texts)) < len(texts):
            yield ValidationError(f"{instance!r} has non-unique elements")


def _reason(error: ValidationError) -> str:
    message = error.message.replace(repr(error.instance), "the value", 1)
    return clip(f"{error.json_path}: {message}", _REASON_BYTES)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
