"""The images and files of a prompt, as media_fragments that its request must show.

litellm drops what it cannot express for a provider: an image for a model without eyes, a video, a PDF. The model then
answers another question than the one that was asked, and nobody would know.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

_TRACE_CHARS: Final = 200
_READERS: Final = frozenset({"user", "tool"})
"""Whose messages are looked at; what a model made itself may well stay behind."""

_FIELDS: Final = ("url", "file_data", "file_id", "data")
_SAME_IN_JSON: Final = re.compile(r"[\w/+=.:?&%,;~@-]+", re.ASCII)
_DATA_URL: Final = re.compile(r"data:[^,]*,")


def media_fragments(messages: Iterable[Mapping[str, Any]]) -> list[str]:
    """For each image or file in `messages`, a piece of it that any request which carries it shows."""
    return [trace for message in messages if message.get("role") in _READERS for trace in _of_content(message)]


def _of_content(message: Mapping[str, Any]) -> Iterator[str]:
    content = message.get("content")
    for part in content if isinstance(content, list) else ():
        address = _address(part) if isinstance(part, Mapping) else None
        if address and (found := _SAME_IN_JSON.match(_DATA_URL.sub("", address[: 2 * _TRACE_CHARS], count=1))):
            yield found[0][:_TRACE_CHARS]


def _address(part: Mapping[str, Any]) -> str | None:
    """Where a part's media are, or the media themselves; None for a part without."""
    inside = part.get(str(part.get("type"))) or part.get("source")
    if isinstance(inside, Mapping):
        inside = next((inside[field] for field in _FIELDS if inside.get(field)), None)
    return inside if isinstance(inside, str) and part.get("type") != "text" else None
