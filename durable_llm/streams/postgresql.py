"""A PostgreSQL database as a place for streams: one table, one row per batch, LISTEN and NOTIFY. Needs `postgres`.

The table is UNLOGGED and commits do not wait for the disk: a batch is a preview, and a crash of the server may lose it.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final

import psycopg
from psycopg_pool import AsyncConnectionPool

from durable_llm.addresses.postgresql import Database, first_line
from durable_llm.streams.channel import Place

_SETTINGS: Final = "SET synchronous_commit = off"
_EXISTS: Final = "SELECT to_regclass('durable_llm_streams')"
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('durable_llm_streams'))"
_CREATE: Final = """
    CREATE UNLOGGED TABLE IF NOT EXISTS durable_llm_streams (
        stream text NOT NULL,
        attempt integer NOT NULL,
        number integer NOT NULL,
        line bytea NOT NULL,
        published_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (stream, attempt, number)
    )"""
_APPEND: Final = """
    WITH added AS (
        INSERT INTO durable_llm_streams (stream, attempt, number, line) VALUES (%s, %s, %s, %s)
        ON CONFLICT DO NOTHING RETURNING stream
    ) SELECT pg_notify('durable_llm_streams', stream) FROM added"""
_READ: Final = """
    SELECT attempt, number, line FROM durable_llm_streams
    WHERE stream = %s AND (attempt, number) > (%s, %s) ORDER BY attempt, number"""
_SWEEP: Final = """
    DELETE FROM durable_llm_streams old WHERE published_at < %(before)s AND NOT EXISTS (
        SELECT FROM durable_llm_streams WHERE stream = old.stream AND published_at >= %(before)s
    )"""

_CONNECTIONS: Final = 4
_TIMEOUT_S: Final = 5.0
"""Seconds to get a connection."""

_LOOK_S: Final = 0.5
"""Seconds between two looks of a reader while notifications cannot be received."""


class PostgreSQL:
    """One table of one database, which is created if it is missing.

    Args:
        database: The database.
    """

    def __init__(self, database: Database) -> None:
        self.place = database.place
        self._database = database
        self._pool: AsyncConnectionPool[psycopg.AsyncConnection[Any]] | None = None
        self._listener: asyncio.Task[None] | None = None
        self._listening = False
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._has_table = False

    async def append(self, stream: str, attempt: int, number: int, line: bytes) -> None:
        """See `Driver`."""
        async with self._connection() as connection:
            await connection.execute(_APPEND, (stream, attempt, number, line))

    async def read(self, stream: str, after: Place, wait_s: float) -> Sequence[tuple[Place, bytes]]:
        """See `Driver`."""
        published = asyncio.Event()
        self._waiting[stream].add(published)
        try:
            lines = await self._lines(stream, after)
            if lines or wait_s <= 0:
                return lines
            await self._published(published, wait_s)
            return await self._lines(stream, after)
        finally:
            self._waiting[stream].discard(published)
            if not self._waiting[stream]:
                del self._waiting[stream]

    async def sweep(self, before: datetime) -> int:
        """See `Driver`. Returns the number of batches."""
        async with self._connection() as connection:
            return (await connection.execute(_SWEEP, {"before": before})).rowcount

    async def close(self) -> None:
        """See `Driver`."""
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
        if self._pool is not None:
            await self._pool.close()

    async def _lines(self, stream: str, after: Place) -> list[tuple[Place, bytes]]:
        async with self._connection() as connection:
            rows = await (await connection.execute(_READ, (stream, *after), binary=True)).fetchall()
        return [((attempt, number), line) for attempt, number, line in rows]

    async def _published(self, published: asyncio.Event, wait_s: float) -> None:
        """Wait for a notification, or as long as it makes sense without one."""
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen())
        try:
            async with asyncio.timeout(wait_s if self._listening else min(wait_s, _LOOK_S)):
                await published.wait()
        except TimeoutError:
            pass

    async def _listen(self) -> None:
        """Tell waiting readers what was published, on a connection that is made again when it breaks."""
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    **self._database.parameters(), autocommit=True
                ) as connection:
                    await connection.execute("LISTEN durable_llm_streams")
                    self._listening = True
                    async for notification in connection.notifies():
                        for event in self._waiting.get(notification.payload, ()):
                            event.set()
            except (psycopg.Error, OSError):
                self._listening = False
                await asyncio.sleep(_LOOK_S)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        try:
            if self._pool is None:
                self._database.parameters()  # a file that cannot be read is named at once
                self._pool = AsyncConnectionPool(
                    kwargs=self._parameters, configure=self._configure, min_size=1, max_size=_CONNECTIONS,
                    timeout=_TIMEOUT_S, open=False,
                )  # fmt: skip
                await self._pool.open()
            async with self._pool.connection() as connection:
                yield connection
        except psycopg.Error as error:
            raise OSError(f"{self.place}: {first_line(error)}") from None

    async def _parameters(self) -> dict[str, Any]:
        return {**self._database.parameters(), "autocommit": True}

    async def _configure(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Set up a new connection, and the table if it is missing: checked first, because that needs a right."""
        await connection.execute(_SETTINGS)
        if self._has_table:
            return
        if await (await connection.execute(_EXISTS)).fetchone() == (None,):
            async with connection.transaction():
                await connection.execute(_LOCK)
                await connection.execute(_CREATE)
        self._has_table = True
