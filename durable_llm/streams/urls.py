"""The place for streams that a URL names. Clients and workers have the same."""

import os
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import SplitResult, urlsplit

from durable_llm.addresses.directory import directory_of
from durable_llm.addresses.packages import require
from durable_llm.errors import InvalidRequestError
from durable_llm.streams.channel import Streams
from durable_llm.streams.directory import Directory
from durable_llm.streams.kept import Driver, KeptStreams
from durable_llm.streams.temporal import TemporalStreams

STREAMS_VARIABLE: Final = "DURABLE_LLM_STREAMS"
"""Variable with the URL, for clients and workers."""

_SHAPES: Final = "file:///DIRECTORY, redis://HOST/NUMBER or postgresql://USER@HOST/DATABASE"


def streams_from_environment(environment: Mapping[str, str] = os.environ) -> Streams:
    """The place that DURABLE_LLM_STREAMS names; Temporal if it is not set.

    Raises:
        InvalidRequestError: the URL cannot be used.
    """
    return open_streams(environment.get(STREAMS_VARIABLE, "").strip())


def open_streams(url: str) -> Streams:
    """The place at `url`. Nothing is connected yet.

    Args:
        url: "file:///DIRECTORY" with an absolute path, "redis://USER@HOST:PORT/NUMBER?password_file=" ("rediss://" with
            TLS), or "postgresql://USER@HOST:PORT/DATABASE?password_file=" with libpq's own parameters. Empty: Temporal.

    Raises:
        InvalidRequestError: another kind of URL, a password in it, or a package that is not installed.
    """
    if not url:
        return TemporalStreams()
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise InvalidRequestError(f"{STREAMS_VARIABLE}: expected {_SHAPES}") from None
    opener = _OPENERS.get(parts.scheme)
    if opener is None:
        raise InvalidRequestError(f"{STREAMS_VARIABLE}: expected {_SHAPES}")
    try:
        return KeptStreams(opener(parts))
    except ValueError as error:
        raise InvalidRequestError(f"{STREAMS_VARIABLE}: {error}") from None


def _directory(parts: SplitResult) -> Driver:
    return Directory(directory_of(parts))


def _redis(parts: SplitResult) -> Driver:
    require("redis", "redis")
    from durable_llm.streams.redis import Redis  # noqa: PLC0415  # imported only for its kind

    return Redis(parts)


def _postgresql(parts: SplitResult) -> Driver:
    require("psycopg_pool", "postgres")
    from durable_llm.addresses.postgresql import Database  # noqa: PLC0415  # as above
    from durable_llm.streams.postgresql import PostgreSQL  # noqa: PLC0415  # as above

    return PostgreSQL(Database(parts))


_OPENERS: Final[Mapping[str, Callable[[SplitResult], Driver]]] = {
    "file": _directory,
    "redis": _redis,
    "rediss": _redis,
    "postgresql": _postgresql,
    "postgres": _postgresql,
}
