"""Open the store that a URL names. A driver's packages are imported only for its kind of URL."""

import os
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

from durable_llm.addresses.directory import directory_of
from durable_llm.addresses.packages import require
from durable_llm.errors import InvalidRequestError
from durable_llm.store.errors import StoreSettingError
from durable_llm.store.store import Driver, Store

STORE_VARIABLE: Final = "DURABLE_LLM_STORE"
"""Variable with the store's URL, for clients and workers."""

_SHAPES: Final = "file:///DIRECTORY, s3://BUCKET/PREFIX or postgresql://USER@HOST/DATABASE"
_S3_OPTIONS: Final = ("region", "endpoint_url", "profile")


def store_from_environment(environment: Mapping[str, str] = os.environ) -> Store | None:
    """The store that DURABLE_LLM_STORE names, None if it is not set.

    Raises:
        InvalidRequestError: the URL cannot be used.
    """
    url = environment.get(STORE_VARIABLE, "").strip()
    try:
        return open_store(url) if url else None
    except StoreSettingError as error:
        raise InvalidRequestError(f"{STORE_VARIABLE}: {error}") from None


def open_store(url: str) -> Store:
    """The store at `url`. Nothing is connected yet.

    Args:
        url: "file:///DIRECTORY", "s3://BUCKET/PREFIX?region=&endpoint_url=&profile=" or
            "postgresql://USER@HOST:PORT/DATABASE?password_file=" with libpq's own parameters.

    Raises:
        StoreSettingError: another kind of URL, a password in it, or a package that is not installed.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise StoreSettingError(f"expected {_SHAPES}") from None
    opener = _OPENERS.get(parts.scheme)
    if opener is None:
        raise StoreSettingError(f"expected {_SHAPES}")
    try:
        return Store(opener(parts))
    except ValueError as error:
        raise StoreSettingError(str(error)) from None


def _directory(parts: SplitResult) -> Driver:
    from durable_llm.store.directory import Directory  # noqa: PLC0415  # imported only for its kind

    return Directory(directory_of(parts))


def _s3(parts: SplitResult) -> Driver:
    require("boto3", "s3")
    from durable_llm.store.s3 import S3  # noqa: PLC0415  # as above

    if "@" in parts.netloc:
        raise StoreSettingError("s3: credentials do not belong in the URL; set AWS_* variables or a profile")
    if not parts.hostname or parts.fragment:
        raise StoreSettingError("s3: expected s3://BUCKET/PREFIX")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(set(options) - set(_S3_OPTIONS)):
        raise StoreSettingError(f"s3: unknown {', '.join(unknown)}; known are {', '.join(_S3_OPTIONS)}")
    _check_endpoint(options.get("endpoint_url"))
    prefix = parts.path.strip("/")
    return S3(parts.netloc, f"{prefix}/" if prefix else "", **options)


def _check_endpoint(endpoint: str | None) -> None:
    if endpoint is None:
        return
    if urlsplit(endpoint).scheme not in ("http", "https") or "@" in endpoint:
        raise StoreSettingError("s3: endpoint_url: expected http://HOST:PORT or https://HOST, without credentials")


def _postgresql(parts: SplitResult) -> Driver:
    require("psycopg", "postgres")
    from durable_llm.addresses.postgresql import Database  # noqa: PLC0415  # as above
    from durable_llm.store.postgresql import PostgreSQL  # noqa: PLC0415  # as above

    return PostgreSQL(Database(parts))


_OPENERS: Final[Mapping[str, Callable[[SplitResult], Driver]]] = {
    "file": _directory,
    "s3": _s3,
    "postgresql": _postgresql,
    "postgres": _postgresql,
}
