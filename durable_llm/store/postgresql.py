"""A PostgreSQL database as a store: one table, one row per content. Needs the extra `postgres`."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final

import psycopg

from durable_llm.addresses.postgresql import Database, first_line
from durable_llm.store.errors import ContentMissingError, StoreError, StoreRefusedError, StoreUnavailableError

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

# libpq has no code for a connection that the server refuses.
_REFUSED = re.compile(r"authentication failed|no password supplied|does not exist|permission denied|no pg_hba\.conf")


class PostgreSQL:
    """One table of one database, which is created if it is missing.

    Args:
        database: The database.
    """

    def __init__(self, database: Database) -> None:
        self.place = database.place
        self._database = database
        self._has_table = False

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
            parameters = self._database.parameters()
        except OSError as error:
            raise StoreRefusedError(f"{self.place}: {error}") from None
        try:
            with psycopg.connect(**parameters, autocommit=True) as connection:
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

    def _translated(self, error: psycopg.Error) -> StoreError:
        transient = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | psycopg.InternalError)
        text = first_line(error)
        kind = StoreUnavailableError if transient and not _REFUSED.search(text) else StoreRefusedError
        return kind(f"{self.place}: {text}")
