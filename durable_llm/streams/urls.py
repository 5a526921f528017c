"""The place for streams that a URL names. Clients and workers have the same."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from durable_llm.errors import InvalidRequestError
from durable_llm.streams.channel import Streams
from durable_llm.streams.directory import Directory

STREAMS_VARIABLE: Final = "DURABLE_LLM_STREAMS"
"""Variable with the URL, for clients and workers."""


def streams_from_environment(environment: Mapping[str, str] = os.environ) -> Streams | None:
    """The place that DURABLE_LLM_STREAMS names, None if it is not set.

    Raises:
        InvalidRequestError: the URL cannot be used.
    """
    url = environment.get(STREAMS_VARIABLE, "").strip()
    return open_streams(url) if url else None


def open_streams(url: str) -> Streams:
    """The place at `url`.

    Args:
        url: "file:///DIRECTORY", an absolute path.

    Raises:
        InvalidRequestError: another kind of URL.
    """
    expected = f"{STREAMS_VARIABLE}: expected file:///DIRECTORY with an absolute path and nothing after it"
    try:
        parts = urlsplit(url)
        root = Path(url2pathname(parts.path))
    except ValueError:
        raise InvalidRequestError(expected) from None
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
        raise InvalidRequestError(expected)
    if not root.is_absolute() or ".." in root.parts or root == Path(root.anchor):
        raise InvalidRequestError(expected)
    return Streams(Directory(root))
