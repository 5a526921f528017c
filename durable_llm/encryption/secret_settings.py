"""Settings that are secrets: from a variable, or from the file that NAME_FILE names (Docker's and Kubernetes' secrets).

One reading for all of them, so that a file that is missing or empty is said before anything is sent instead of being
taken for "not set". No error repeats what was read.
"""

from collections.abc import Mapping
from pathlib import Path


def secret_setting(environment: Mapping[str, str], name: str) -> str:
    """What the variable `name` or the file of `name`_FILE holds, without white space around it; "" if neither is set.

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
        raise ValueError(f"{variable}: {path} is no text") from None
    if not content:
        raise ValueError(f"{variable}: {path} is empty")
    return content
