"""Secret settings: from a variable, or from the file that NAME_FILE names (secrets of Docker and Kubernetes).

A missing or empty file is an error, not "not set". No error repeats the content.
"""

from collections.abc import Mapping
from pathlib import Path


def secret_setting(environment: Mapping[str, str], name: str) -> str:
    """The value of the variable `name` or the content of the file `name`_FILE, stripped. "" if neither is set.

    Raises:
        ValueError: both are set, or the file cannot be read or is empty.
    """
    value, path = environment.get(name, "").strip(), environment.get(f"{name}_FILE", "").strip()
    if value and path:
        raise ValueError(f"{name} and {name}_FILE are both set; keep one of them")
    return _content(f"{name}_FILE", Path(path)) if path else value


def _content(variable: str, path: Path) -> str:
    try:
        content = path.read_text().strip()
    except OSError as error:
        raise ValueError(f"{variable}: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{variable}: {path} is not UTF-8 text") from None
    if not content:
        raise ValueError(f"{variable}: {path} is empty")
    return content
