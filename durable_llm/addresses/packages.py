"""Packages that only some kinds of address need."""

from importlib.util import find_spec


def require(package: str, extra: str) -> None:
    """Check that a package is installed.

    Raises:
        ValueError: it is not; says what to install.
    """
    if find_spec(package) is None:
        raise ValueError(f"needs {package}: pip install 'durable-llm[{extra}]'")
