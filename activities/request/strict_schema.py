"""Convert a JSON Schema into the form of strict modes, if it has one.

A strict mode decodes along the schema, so every answer follows it. It needs closed objects with every property
required, and it knows only some keywords. The converted schema may be weaker than the caller's (a length limit becomes
part of the description), never different. The answer is checked against the caller's schema.
"""

from collections.abc import Mapping
from typing import Any, Final

_KEPT: Final = frozenset({
    "type", "enum", "const", "title", "description", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "multipleOf", "pattern", "minItems", "maxItems",
})  # fmt: skip
_FORMATS: Final = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
_SAID: Final = ("minLength", "maxLength", "uniqueItems", "format")
"""Limits that a strict mode refuses. They become part of the description."""

_OF_NO_USE: Final = frozenset({
    "default", "examples", "discriminator", "deprecated", "readOnly", "writeOnly", "$schema", "$id", "$comment",
})  # fmt: skip
_DEFINITIONS: Final = ("$defs", "definitions")


class _UnfitError(Exception):
    """No strict mode can express the schema."""


def strict_schema(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """`schema` with closed objects and every property required. None: that would change its meaning.

    An optional property becomes required if it has a default or may be null, because the model can then write that.
    Other optional properties, objects with free keys and the combining keywords have no strict form.
    """
    try:
        root = _without_root_reference(schema)
        return _closed(root) if root.get("type") == "object" else None
    except _UnfitError:
        return None


def is_object_schema(schema: Mapping[str, Any]) -> bool:
    """Whether every value of the schema is a JSON object. A JSON mode returns nothing else."""
    return _without_root_reference(schema).get("type") == "object"


def _without_root_reference(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Replace a reference at the root, as of a recursive pydantic model: strict modes need the object itself."""
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    home, _, name = reference.removeprefix("#/").partition("/")
    target = schema.get(home, {}).get(name) if home in _DEFINITIONS else None
    definitions = {key: schema[key] for key in _DEFINITIONS if key in schema}
    return {**target, **definitions} if isinstance(target, Mapping) else schema


def _closed(schema: Any) -> dict[str, Any]:
    if not isinstance(schema, Mapping):
        raise _UnfitError
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}  # strict modes allow no keyword beside it
    closed: dict[str, Any] = {}
    for keyword, value in schema.items():
        closed.update(_keyword(keyword, value))
    if _may_be(schema, "object"):
        closed.update(_closed_object(schema))
    if limits := [f"{name}: {schema[name]}" for name in _SAID if name in schema and name not in closed]:
        closed["description"] = " ".join(filter(None, [schema.get("description"), f"({', '.join(limits)})"]))
    return closed


def _keyword(keyword: str, value: Any) -> dict[str, Any]:
    """One keyword in its strict form."""
    if keyword in _KEPT or (keyword == "format" and value in _FORMATS):
        return {keyword: value}
    if keyword in _DEFINITIONS:
        return {keyword: {name: _closed(inner) for name, inner in value.items()}}
    if keyword in ("anyOf", "oneOf"):  # strict modes know only anyOf; the check of the answer sees the difference
        return {"anyOf": [_closed(inner) for inner in value]}
    if keyword == "items":
        return {keyword: _closed(value)}
    if keyword in (*_SAID, "properties", "required", "additionalProperties") or keyword in _OF_NO_USE:
        return {}
    raise _UnfitError


def _closed_object(schema: Mapping[str, Any]) -> dict[str, Any]:
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or schema.get("additionalProperties", False) is not False:
        raise _UnfitError  # free keys
    demanded = schema.get("required", ())
    if any(name not in demanded and not _may_be_required(inner) for name, inner in properties.items()):
        raise _UnfitError
    return {
        "properties": {name: _closed(inner) for name, inner in properties.items()},
        "required": list(properties),
        "additionalProperties": False,
    }


def _may_be_required(schema: Any) -> bool:
    """Whether the property can be written without changing the meaning of leaving it out."""
    return isinstance(schema, Mapping) and ("default" in schema or _may_be(schema, "null"))


def _may_be(schema: Mapping[str, Any], kind: str) -> bool:
    types = schema.get("type")
    if kind == types or (isinstance(types, list) and kind in types):
        return True
    return kind == "null" and any(
        isinstance(inner, Mapping) and _may_be(inner, kind)
        for inner in (*schema.get("anyOf", ()), *schema.get("oneOf", ()))
    )
