"""Where a tool has its name, in every shape that callers write. Child processes import this, so no litellm here."""

from collections.abc import Mapping
from typing import Any, Final

CALLERS_KINDS: Final = ("function", "custom")
"""Kinds of tools that the caller runs."""


def tool_name(value: Any) -> str | None:
    """The name in a tool or in a choice of one, in the format of Chat Completions or of Responses."""
    if not isinstance(value, Mapping):
        return None
    inner = next((value[kind] for kind in CALLERS_KINDS if isinstance(value.get(kind), Mapping)), value)
    name = inner.get("name")
    return name if isinstance(name, str) else None


def tools_in_body(parameters: Mapping[str, Any]) -> Any:
    """Tools in `extra_body`, which litellm does not read."""
    body = parameters.get("extra_body")
    return body.get("tools") if isinstance(body, Mapping) else None
