"""The directory that a URL names, for every setting that takes one."""

from pathlib import Path
from urllib.parse import SplitResult
from urllib.request import url2pathname


def directory_of(parts: SplitResult) -> Path:
    """The directory of "file:///DIRECTORY".

    Args:
        parts: The URL. Its scheme is not looked at.

    Raises:
        ValueError: the path is not absolute, is the root or has "..", or something follows it.
    """
    root = Path(url2pathname(parts.path))
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not root.is_absolute():
        raise ValueError("expected file:///DIRECTORY with an absolute path and nothing after it")
    if ".." in root.parts or root == Path(root.anchor):
        raise ValueError("expected file:///DIRECTORY, not the root and without '..'")
    return root
