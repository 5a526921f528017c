"""Replace lone surrogates: halves of characters, left where a token limit cuts an emoji's JSON escape.

UTF-8 cannot encode them, so an answer with one could not be stored. It would be paid for and lost.
"""

from typing import Any

_UTF_16 = "utf-16-le"


def without_surrogates(value: Any) -> Any:
    """The JSON `value` with U+FFFD for each lone surrogate. Two halves of a character become the character."""
    match value:
        case str():
            return value if value.isascii() else value.encode(_UTF_16, "surrogatepass").decode(_UTF_16, "replace")
        case dict():
            return {without_surrogates(name): without_surrogates(inner) for name, inner in value.items()}
        case list():
            return [without_surrogates(inner) for inner in value]
    return value
