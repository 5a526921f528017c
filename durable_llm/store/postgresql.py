"""A PostgreSQL database as a store: one table, one row per content. Needs the extra `postgres`.

The password comes from the file that the URL names, or from where libpq looks: PGPASSWORD, PGPASSFILE, ~/.pgpass.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from durable_llm.store.errors import (
    ContentMissingError,
    StoreError,
    StoreRefusedError,
    StoreSettingError,
    StoreUnavailableError,
)

_EXISTS: Final = "SELECT to_regclass('durable_llm_prompts')"
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('durable_llm_prompts'))"
_CREATE: Final = """
    CREATE TABLE IF NOT EXISTS durable_llm_prompts (
        name text PRIMARY KEY CHECK (name ~ '^[0-9a-f]{64}$'),
        content bytea NOT NULL,
        stored_at timestamptz NOT NULL DEFAULT now()
    )"""
_UNCOMPRESSED: Final = "ALTER TABLE durable_llm_prompts ALTER COLUMN content SET STORAGE EXTERNAL"
_PUT: Final = """
    INSERT INTO durable_llm_prompts (name, content) VALUES (%s, %s)
    ON CONFLICT (name) DO UPDATE SET content = EXCLUDED.content, stored_at = now()"""
_GET: Final = "SELECT content FROM durable_llm_prompts WHERE name = %s"
_SWEEP: Final = "DELETE FROM durable_llm_prompts WHERE stored_at < %s"

_DEFAULTS: Final = {
    "connect_timeout": "5", "tcp_user_timeout": "30000", "keepalives_idle": "10", "application_name": "durable-llm",
}  # fmt: skip
"""libpq's parameters, in its units, unless the URL sets them. Without them a network that drops packets blocks a thread
for hours."""

# libpq has no code for a connection that the server refuses.
_REFUSED = re.compile(r"authentication failed|no password supplied|does not exist|permission denied|no pg_hba\.conf")


class PostgreSQL:
    """One table of one database, which is created if it is missing.

    Args:
        url: libpq's URL, without a password.
        place: The URL without credentials.
        password_file: File with the password, read for each connection. None: libpq looks for it.

    Raises:
        StoreSettingError: libpq does not understand the URL.
    """

    def __init__(self, url: str, place: str, *, password_file: Path | None = None) -> None:
        self.place = place
        self._password_file = password_file
        self._has_table = False
        try:
            self._parameters: dict[str, Any] = {**_DEFAULTS, **conninfo_to_dict(url)}
        except psycopg.Error as error:
            raise StoreSettingError(f"PostgreSQL's library cannot use the URL: {_first_line(error)}") from None

    def put(self, name: str, content: bytes) -> None:
        """See `Driver`."""
        with self._connection() as connection:
            connection.execute(_PUT, (name, content))

    def get(self, name: str) -> bytes:
        """See `Driver`."""
        with self._connection() as connection:
            row = connection.execute(_GET, (name,), binary=True).fetchone()
        if row is None:
            raise ContentMissingError(f"{self.place} does not hold {name}")
        return bytes(row[0])

    def sweep(self, before: datetime) -> int:
        """See `Driver`."""
        with self._connection() as connection:
            return connection.execute(_SWEEP, (before,)).rowcount

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection]:
        """A new connection for each transfer: large prompts are rare, and an idle connection may break."""
        try:
            with psycopg.connect(**{**self._parameters, **self._password()}, autocommit=True) as connection:
                self._make_table(connection)
                yield connection
        except psycopg.Error as error:
            raise self._translated(error) from None

    def _make_table(self, connection: psycopg.Connection) -> None:
        if self._has_table:
            return
        # Checked first, because creating it needs a right that the user may not have.
        if connection.execute(_EXISTS).fetchone() == (None,):
            with connection.transaction():
                for statement in (_LOCK, _CREATE, _UNCOMPRESSED):
                    connection.execute(statement)
        self._has_table = True

    def _password(self) -> dict[str, str]:
        if self._password_file is None:
            return {}
        try:
            return {"password": self._password_file.read_text().strip()}
        except (OSError, UnicodeDecodeError) as error:
            reason = f"{self._password_file} cannot be read ({type(error).__name__})"
            raise StoreRefusedError(f"{self.place}: its password_file {reason}") from None

    def _translated(self, error: psycopg.Error) -> StoreError:
        transient = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | psycopg.InternalError)
        text = _first_line(error)
        kind = StoreUnavailableError if transient and not _REFUSED.search(text) else StoreRefusedError
        return kind(f"{self.place}: {text}")


def _first_line(error: psycopg.Error) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
