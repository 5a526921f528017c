"""Fragments of a prompt's images and files, which its request must contain.

litellm silently drops what it cannot express for a provider: an image for a text model, a video, a PDF. The model would
then answer another question.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

_TRACE_CHARS: Final = 200
_READERS: Final = frozenset({"user", "tool"})
"""Roles whose media must arrive. A model's own may be dropped."""

_FIELDS: Final = ("url", "file_data", "file_id", "data")
_SAME_IN_JSON: Final = re.compile(r"[\w/+=.:?&%,;~@-]+", re.ASCII)
_DATA_URL: Final = re.compile(r"data:[^,]*,")


def media_fragments(messages: Iterable[Mapping[str, Any]]) -> list[str]:
    """A fragment of each image and file in `messages`. Every request that carries it contains the fragment."""
    return [trace for message in messages if message.get("role") in _READERS for trace in _of_content(message)]


def _of_content(message: Mapping[str, Any]) -> Iterator[str]:
    content = message.get("content")
    for part in content if isinstance(content, list) else ():
        address = _address(part) if isinstance(part, Mapping) else None
        if address and (found := _SAME_IN_JSON.match(_DATA_URL.sub("", address[: 2 * _TRACE_CHARS], count=1))):
            yield found[0][:_TRACE_CHARS]


def _address(part: Mapping[str, Any]) -> str | None:
    """The address or the data of a part's media. None: it has none."""
    inside = part.get(str(part.get("type"))) or part.get("source")
    if isinstance(inside, Mapping):
        inside = next((inside[field] for field in _FIELDS if inside.get(field)), None)
    return inside if isinstance(inside, str) and part.get("type") != "text" else None
