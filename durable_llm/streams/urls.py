"""The place for streams that a URL names. Clients and workers have the same."""

import os
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from durable_llm.directory_url import directory_of
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
    except ValueError:
        raise InvalidRequestError(expected) from None
    if parts.scheme != "file":
        raise InvalidRequestError(expected)
    try:
        return Streams(Directory(directory_of(parts)))
    except ValueError as error:
        raise InvalidRequestError(f"{STREAMS_VARIABLE}: {error}") from None
