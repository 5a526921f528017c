"""Each kind of place for streams, with its server where it has one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.support.postgres import installed_postgres
from tests.support.redis import running_redis

PLACES: Final = ("file", "redis", "postgresql", "temporal")


@contextmanager
def stream_place(kind: str) -> Iterator[tuple[str, int | None]]:
    """The URL of one kind of place, and its server's process id, while the block runs."""
    with TemporaryDirectory() as folder:
        match kind:
            case "redis":
                with running_redis(Path(folder)) as redis:
                    yield redis.url, redis.pid
            case "postgresql":
                with installed_postgres() as postgres, postgres.running() as pid:
                    yield postgres.url, pid
            case "file":
                yield Path(folder).as_uri(), None
            case _:
                yield "", None
