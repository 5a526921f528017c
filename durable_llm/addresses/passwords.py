"""Passwords stand in files that a URL names, not in the URL, which logs and process lists show."""

from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl

_SECRET_OPTIONS: Final = frozenset({"password", "sslpassword", "ssl_password"})
_PASSWORD_FILE: Final = "password_file"  # noqa: S105  # an option's name


def options_without_password(parts: SplitResult, elsewhere: str) -> tuple[dict[str, str], Path | None]:
    """The options behind a URL's "?", and the file that its password is in.

    Args:
        parts: The URL.
        elsewhere: Where else a password may be, in words.

    Raises:
        ValueError: the URL has a password, or the file's path is not absolute.
    """
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.password is not None or not _SECRET_OPTIONS.isdisjoint(options):
        raise ValueError(
            f"{parts.scheme}: a password does not belong in the URL; write ?{_PASSWORD_FILE}=/PATH, or {elsewhere}"
        )
    file = options.pop(_PASSWORD_FILE, None)
    if file is not None and not Path(file).is_absolute():
        raise ValueError(f"{parts.scheme}: {_PASSWORD_FILE}: expected an absolute path")
    return options, Path(file) if file else None


def read_password(file: Path) -> str:
    """The password in a file, read for each connection, so that it can be changed.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise OSError(f"its password_file {file} cannot be read ({type(error).__name__})") from None
