"""The service as a process of its own: the only way from the installed package to the worker.

The service's packages are called workflows, activities and workers. Those names belong to nobody: another distribution
may own a top-level `workflows`, and so may the folder in which a command is typed. So no caller's process has them on
its path. The wheel carries them inside this package, and whoever wants them gets a new interpreter that finds them
first, and nothing in its working directory.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

PACKAGES: Final = ("workflows", "activities", "workers")
"""The service's top-level packages."""

EXIT_USAGE: Final = 2

_WORKER: Final = ("litellm", "pydantic_settings")
_NEEDED: Final = {
    "codec-server": ("codec", ("cryptography", "pydantic_settings", "starlette", "uvicorn")),
    "dev": ("worker,dev", _WORKER),
}
"""What a command imports and a caller's installation does not have, and the extras that bring it."""


class ServiceError(Exception):
    """The service cannot run; the text says why and what to change."""


def run(arguments: Sequence[str]) -> int:
    """Run `python -m workers` with `arguments` and the service's own packages.

    Where the system can, the new program takes over this process, so that signals, exit status and process id are the
    service's own; then this function does not return.

    Returns:
        The exit status.
    """
    try:
        command, environment = command_line(arguments), service_environment(os.environ)
    except ServiceError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  # a plain line that no terminal width wraps
        return EXIT_USAGE
    sys.stdout.flush()
    sys.stderr.flush()
    if sys.platform != "win32":
        os.execve(command[0], command, environment)  # noqa: S606  # our own interpreter, no shell wanted
    return _run_beside(command, environment)


def command_line(arguments: Sequence[str]) -> list[str]:
    """The command that runs the service.

    Raises:
        ServiceError: what the service needs is not installed; says how to install it.
    """
    command = arguments[0] if arguments else ""
    extras, needed = _NEEDED.get(command, ("worker", _WORKER))
    absent = [name for name in needed if find_spec(name) is None]
    if absent:
        who = "the codec server" if command == "codec-server" else "the worker"
        raise ServiceError(f"{who} needs {' and '.join(absent)}: pip install 'durable-llm[{extras}]'")
    return [sys.executable, "-m", "workers", *arguments]


def service_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """The service's environment, which the processes that it starts inherit in turn.

    Raises:
        ServiceError: the service's packages are missing.
    """
    path = [str(service_folder()), *filter(None, [inherited.get("PYTHONPATH")])]
    return {
        **inherited,
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONSAFEPATH": "1",  # or `python -m` would look in the working directory first
    }


def service_folder() -> Path:
    """The folder that holds the service's packages: inside an installed wheel, beside the package in a checkout.

    Raises:
        ServiceError: they are in neither place.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "_service", package.parent):
        if all((folder / name / "__init__.py").is_file() for name in PACKAGES):
            return folder
    raise ServiceError(f"{package} lacks the service's packages ({', '.join(PACKAGES)}); install durable-llm again")


def check_service_modules() -> None:
    """See that this process has the service's own packages and nobody else's of the same name.

    Raises:
        ServiceError: naming the path of each that is not ours.
    """
    folder = service_folder()
    found = {name: _location(name) for name in PACKAGES}
    foreign = [f"{name!r} is {place or 'missing'}" for name, place in found.items() if place != folder / name]
    if foreign:
        raise ServiceError(
            f"{', '.join(foreign)}; the service's own packages are in {folder}. Another distribution or a folder on "
            "PYTHONPATH has taken the name: start the service with 'durable-llm worker', which puts its own first"
        )


def _location(package: str) -> Path | None:
    """Where an import of `package` leads, or has led."""
    spec = find_spec(package)
    if spec is None:
        return None
    if spec.origin is not None and Path(spec.origin).name != "__init__.py":
        return Path(spec.origin).resolve()
    return next((Path(place).resolve() for place in spec.submodule_search_locations or ()), None)


def _run_beside(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run as a child, where a process cannot be replaced; the console sends its Ctrl-C to both."""
    with subprocess.Popen(command, env=environment) as child:  # noqa: S603  # our own interpreter
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:
                continue
