"""Read a YAML file that an operator has written."""

from pathlib import Path
from typing import Any


def read_yaml(name: str, path: Path) -> Any:
    """What the file holds.

    Args:
        name: What names the file, for error texts: a variable or an option.
        path: The file.

    Raises:
        ValueError: it cannot be read, or is not YAML; names `name`, and repeats nothing of the file.
    """
    import yaml  # type: ignore[import-untyped]  # noqa: PLC0415  # most callers have no such file

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{name}: cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, yaml.YAMLError):
        raise ValueError(f"{name}: {path} is not YAML") from None
