"""Halves of characters, which models make where a token limit cuts an emoji's JSON escape in two.

Python reads such an escape as a lone surrogate, which no UTF-8 has. Such an answer could not be stored: paid for, it
would be thrown away and asked again.
"""

from typing import Any

_UTF_16 = "utf-16-le"


def without_surrogates(value: Any) -> Any:
    """JSON's `value` with U+FFFD for each lone surrogate; two halves of a character become the character."""
    match value:
        case str():
            return value if value.isascii() else value.encode(_UTF_16, "surrogatepass").decode(_UTF_16, "replace")
        case dict():
            return {without_surrogates(name): without_surrogates(inner) for name, inner in value.items()}
        case list():
            return [without_surrogates(inner) for inner in value]
    return value
