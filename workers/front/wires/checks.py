"""Checks of the parts of a body."""

from collections.abc import Collection, Mapping
from typing import Any

from durable_llm.errors import InvalidRequestError


def object_of(name: str, value: object) -> Mapping[str, Any]:
    """`value`, if it is a JSON object.

    Raises:
        InvalidRequestError: it is not; names the part.
    """
    if not isinstance(value, Mapping):
        raise InvalidRequestError(f"{name}: expected a JSON object, got {type(value).__name__}")
    return value


def fields_of(body: object, known: Collection[str]) -> dict[str, Any]:
    """The fields of a body; null counts as left out.

    Raises:
        InvalidRequestError: it is not a JSON object, or a field is not among the known ones; names it.
    """
    given = {name: value for name, value in object_of("body", body).items() if value is not None}
    if unknown := sorted(given.keys() - set(known)):
        raise InvalidRequestError(f"body: {unknown[0]!r} is not supported here")
    return given


def list_of(name: str, value: object) -> list[Any]:
    """`value`, if it is a list.

    Raises:
        InvalidRequestError: it is not; names the part.
    """
    if not isinstance(value, list):
        raise InvalidRequestError(f"{name}: expected a list, got {type(value).__name__}")
    return value


def text_of(name: str, value: object) -> str:
    """`value`, if it is a text.

    Raises:
        InvalidRequestError: it is not; names the part.
    """
    if not isinstance(value, str):
        raise InvalidRequestError(f"{name}: expected a text, got {type(value).__name__}")
    return value
