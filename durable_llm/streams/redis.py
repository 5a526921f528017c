"""Redis 5 or newer, or a server with its protocol (Valkey), as a place for streams. Needs the extra `redis`.

A call's stream is a Redis Stream. The id of a batch is its attempt and its number, so Redis itself refuses a batch that
is there already, and what a lost worker still sends after a newer attempt has begun.

The password comes from the file that the URL names, or from REDISCLI_AUTH, as in redis-cli.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlencode

from redis import asyncio as redis
from redis.credentials import CredentialProvider
from redis.exceptions import RedisError

from durable_llm.addresses.passwords import options_without_password, read_password
from durable_llm.streams.channel import KEPT, Place

_TIMEOUT_S: Final = 5.0
"""Seconds that the server has to connect, and to answer."""

_CONNECTIONS: Final = 10_000
"""A waiting reader holds one; 10,000 is also what a server accepts by default."""

_PASSWORD_VARIABLE: Final = "REDISCLI_AUTH"  # noqa: S105  # a variable's name
_OPTIONS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_FIELD: Final = b"batch"
_TAKEN: Final = "equal or smaller than the target stream top item"


class Redis:
    """One database of one server. Streams expire there by themselves.

    Args:
        parts: "redis://USER@HOST:PORT/NUMBER?password_file=", or "rediss://" for TLS.

    Raises:
        ValueError: the URL cannot be used, or a password is in it.
    """

    def __init__(self, parts: SplitResult) -> None:
        options, password_file = options_without_password(parts, f"set {_PASSWORD_VARIABLE}")
        if unknown := sorted(set(options) - set(_OPTIONS)):
            raise ValueError(f"{parts.scheme}: unknown {', '.join(unknown)}; known are {', '.join(_OPTIONS)}")
        database = parts.path.removeprefix("/")
        if not parts.hostname or parts.fragment or not (database == "" or database.isdecimal()):
            raise ValueError(f"{parts.scheme}: expected {parts.scheme}://HOST:PORT/NUMBER, the number of a database")
        bare = parts._replace(query="", fragment="")
        self.place = bare.geturl()
        self._client = redis.Redis.from_url(
            bare._replace(netloc=bare.netloc.rpartition("@")[2], query=urlencode(options)).geturl(),
            credential_provider=_Credentials(unquote(parts.username or ""), password_file), protocol=2,
            socket_connect_timeout=_TIMEOUT_S, socket_timeout=2 * _TIMEOUT_S,
            max_connections=_CONNECTIONS,
        )  # fmt: skip

    async def append(self, stream: str, attempt: int, number: int, line: bytes) -> None:
        """See `Driver`."""
        key = _key(stream)
        with self._translated():
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.xadd(key, {_FIELD: line}, id=f"{attempt}-{number}")
                pipeline.expire(key, KEPT)
                [added, _] = await pipeline.execute(raise_on_error=False)
            if isinstance(added, Exception) and _TAKEN not in str(added):
                raise added

    async def read(self, stream: str, after: Place, wait_s: float) -> Sequence[tuple[Place, bytes]]:
        """See `Driver`."""
        wait_ms = int(min(wait_s, _TIMEOUT_S) * 1000) or None  # 0 would wait forever
        attempt, number = after
        with self._translated():
            found: Any = await self._client.xread({_key(stream): f"{attempt}-{number}"}, block=wait_ms)
        return [(_place(name), fields[_FIELD]) for _, entries in found for name, fields in entries]

    async def sweep(self, before: datetime) -> int:
        """See `Driver`. Redis expires them."""
        del before
        return 0

    async def close(self) -> None:
        """See `Driver`."""
        await self._client.aclose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except RedisError as error:
            raise OSError(f"{self.place}: {error}") from None


class _Credentials(CredentialProvider):
    """A user's name and the password that the file or the variable has now."""

    def __init__(self, user: str, password_file: Path | None) -> None:
        self._user = user
        self._password_file = password_file

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """See base class."""
        file = self._password_file
        password = read_password(file) if file else os.environ.get(_PASSWORD_VARIABLE, "")
        return (self._user, password) if self._user else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """See base class."""
        return self.get_credentials()


def _key(stream: str) -> str:
    return f"durable-llm:stream:{stream}"


def _place(name: bytes) -> Place:
    attempt, _, number = name.decode().partition("-")
    return int(attempt), int(number)
