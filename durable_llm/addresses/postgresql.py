"""The PostgreSQL database that a URL names. Needs the extra `postgres`.

The password comes from the file that the URL names, or from where libpq looks: PGPASSWORD, PGPASSFILE, ~/.pgpass.
"""

from typing import Any, Final
from urllib.parse import SplitResult, quote, urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict

from durable_llm.addresses.passwords import options_without_password, read_password

_DEFAULTS: Final = {
    "connect_timeout": "5", "tcp_user_timeout": "30000", "keepalives_idle": "10", "application_name": "durable-llm",
}  # fmt: skip
"""libpq's parameters, in its units, unless the URL sets them. Without them a network that drops packets blocks a thread
for hours."""


class Database:
    """One database and how to connect to it.

    Args:
        parts: "postgresql://USER@HOST:PORT/DATABASE?password_file=" with libpq's own parameters.

    Attributes:
        place: The URL without credentials.

    Raises:
        ValueError: libpq does not understand the URL, or a password is in it.
    """

    def __init__(self, parts: SplitResult) -> None:
        options, self._password_file = options_without_password(parts, "set PGPASSWORD or PGPASSFILE")
        bare = parts._replace(query="", fragment="")
        self.place = bare.geturl()
        url = bare._replace(query=urlencode(options, quote_via=quote)).geturl()
        try:
            self._parameters: dict[str, Any] = {**_DEFAULTS, **conninfo_to_dict(url)}
        except psycopg.Error as error:
            raise ValueError(f"PostgreSQL's library cannot use the URL: {first_line(error)}") from None

    def parameters(self) -> dict[str, Any]:
        """What `psycopg.connect` takes, with the password that the file has now.

        Raises:
            OSError: the file cannot be read.
        """
        if self._password_file is None:
            return self._parameters
        return {**self._parameters, "password": read_password(self._password_file)}


def first_line(error: psycopg.Error) -> str:
    """An error in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]
