"""Checks of the parts of a body."""

from collections.abc import Mapping
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
