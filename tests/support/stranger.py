"""A stranger's machine: a fresh environment, a folder of his own, and packages that took the service's names."""

import base64
import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def pip(python: str | Path, *arguments: str) -> None:
    """Run pip, quietly unless it fails."""
    command = [str(python), "-m", "pip", *arguments, "--disable-pip-version-check", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def squatter(folder: Path) -> Path:
    """The wheel of a distribution that owns a top-level `workflows`, as one on the package index does."""
    entries = {
        "workflows/__init__.py": "raise ImportError('this is the wrong workflows')\n",
        "squatter-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: squatter\nVersion: 1.0\n",
        "squatter-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "squatter-1.0.dist-info/RECORD"
    lines = [f"{name},sha256={_digest(text)},{len(text)}" for name, text in entries.items()]
    path = folder / "squatter-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**entries, record: "\n".join([*lines, f"{record},,", ""])}.items():
            archive.writestr(name, text)
    return path


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


class Stranger:
    """An environment, used from a folder that has nothing to do with the project.

    Args:
        home: His home, in which that folder is.
        environment: Name of the environment in it; made if it is missing.
    """

    def __init__(self, home: Path, environment: str = "venv") -> None:
        self.folder = home / "elsewhere"
        (self.folder / "workflows").mkdir(parents=True)
        (self.folder / "workflows" / "__init__.py").write_text("raise ImportError('a folder of mine')\n")
        if not (home / environment).exists():
            subprocess.run([sys.executable, "-m", "venv", str(home / environment)], check=True)
        self._programs = home / environment / "bin"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self._programs / "python"

    def command(self, *arguments: str) -> list[str]:
        """A `durable-llm` command."""
        return [str(self._programs / "durable-llm"), *arguments]

    def env(self, **changes: str) -> dict[str, str]:
        """Its variables: nothing of the project's environment."""
        kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
        return {"PATH": f"{self._programs}{os.pathsep}/usr/bin{os.pathsep}/bin", **kept, **changes}

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            command, cwd=self.folder, env=self.env(**env), capture_output=True, text=True, timeout=60, check=False
        )


@contextmanager
def running(command: list[str], until: Callable[[str], bool], **options: object) -> Iterator[subprocess.Popen[str]]:
    """A program that has printed a line for which `until` holds; killed if it still runs at the end."""
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options) as process:
        try:
            for line in process.stdout:
                lines.append(line)
                if until(line):
                    break
            else:
                pytest.fail(f"{command} ended with {process.wait()}:\n{''.join(lines)}")
            yield process
        finally:
            process.kill()
