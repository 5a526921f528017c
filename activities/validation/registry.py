"""The validators and tool parsers of a worker, its own and those of its plugins, by name."""

import importlib
import inspect
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any, Final, NamedTuple

from durable_llm.contract.facts import LocalFault
from durable_llm.contract.validation import Registration, ValidatorOnWire, registration_of

from ..faults import LocalFaultError
from . import builtin
from .schema import CPU_S

ENTRY_POINTS: Final = "durable_llm.validators"
"""Group of entry points. Each is a module with decorated functions, or one such function."""


class PluginError(ValueError):
    """A plugin cannot be loaded. The text names it and says why."""


class Registered(NamedTuple):
    """A function with its name."""

    kind: str
    name: str
    function: Callable[..., Any]
    check: Callable[..., None] | None = None
    cpu_s: float | None = None
    """Limit in seconds of its CPU time. None: only the worker's time limit."""

    @property
    def label(self) -> str:
        """Its name in reasons and errors."""
        return f"{self.kind} {self.name!r}"


class Registry:
    """Functions by kind and name.

    Args:
        sources: Modules with decorated functions, or such functions.

    Raises:
        PluginError: two functions have the same name, or one cannot be called from another process.
    """

    def __init__(self, sources: Iterable[object] = ()) -> None:
        self._by_name: dict[tuple[str, str], Registered] = {}
        for registered in _found_in(builtin):
            self._add(registered._replace(cpu_s=CPU_S))  # pattern and schema are a caller's
        for source in sources:
            for registered in _found_in(source):
                self._add(registered)

    @classmethod
    def load(cls, modules: Iterable[str] = ()) -> "Registry":
        """The registry with the plugins of entry points and of `modules`.

        Raises:
            PluginError: a plugin cannot be imported, or registers nothing.
        """
        installed = [_loaded(point.name, point.load) for point in entry_points(group=ENTRY_POINTS)]
        named = [_loaded(name, partial(importlib.import_module, name)) for name in modules]
        return cls([*installed, *named])

    def validator(self, wanted: ValidatorOnWire) -> Registered:
        """The validator with this name and these parameters. Its own check has not run yet.

        Raises:
            LocalFaultError: no such validator, or it does not take these parameters.
        """
        found = self._named("validator", wanted.name)
        try:
            inspect.signature(found.function).bind(None, **wanted.parameters)
        except (TypeError, ValueError) as error:
            raise LocalFaultError(LocalFault.UNKNOWN_VALIDATOR, f"{found.label} cannot be used: {error}") from None
        return found

    def tool_parser(self, name: str) -> Registered:
        """The tool parser with this name.

        Raises:
            LocalFaultError: no such parser.
        """
        return self._named("tool parser", name)

    def _named(self, kind: str, name: str) -> Registered:
        found = self._by_name.get((kind, name))
        if found is None:
            known = ", ".join(sorted(other for of, other in self._by_name if of == kind))
            text = f"this worker has no {kind} {name!r}; it has {known}. A plugin brings others: DURABLE_LLM_PLUGINS"
            raise LocalFaultError(LocalFault.UNKNOWN_VALIDATOR, text)
        return found

    def _add(self, registered: Registered) -> None:
        taken = self._by_name.setdefault((registered.kind, registered.name), registered)
        if taken.function is not registered.function:
            raise PluginError(f"there are two of {registered.label}: {_place(taken)} and {_place(registered)}")
        for function in filter(None, (registered.function, registered.check)):
            _check_importable(registered.label, function)


def _found_in(source: object) -> Iterator[Registered]:
    values = vars(source).values() if isinstance(source, ModuleType) else (source,)
    for value in values:
        registration: Registration | None = registration_of(value)
        if registration is not None and callable(value):
            yield Registered(registration.kind, registration.name, value, registration.check)


def _loaded(name: str, load: Callable[[], object]) -> object:
    try:
        source = load()
    except Exception as error:  # a foreign module may raise anything
        raise PluginError(f"plugin {name!r} cannot be loaded: {type(error).__name__}: {error}") from None
    if not any(True for _ in _found_in(source)):
        raise PluginError(f"plugin {name!r} has no function that is decorated with @validator or @tool_parser")
    return source


def _check_importable(label: str, function: Callable[..., Any]) -> None:
    """Check that a child process finds the function by its module and name."""
    try:
        pickle.dumps(function)
    except Exception as error:  # an object that is callable may raise anything
        raise PluginError(f"{label} must be defined at the top of a module: {error}") from None
    if getattr(function, "__module__", None) == "__main__":
        raise PluginError(f"{label} must be defined in a module of its own, not in the program that is run")


def _place(registered: Registered) -> str:
    function: Mapping[str, Any] | Any = registered.function
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', '?')}"
