"""Validators and tool parsers: how a call names them, and how a plugin writes them.

A call carries names and parameters, never code. The functions run on the worker, which loads them from its plugins. A
plugin is a module with decorated functions:

    from durable_llm import Candidate, Rejected, validator

    @validator("cites_sources")
    def cites_sources(candidate: Candidate, *, least: int = 1) -> None:
        if (candidate.text or "").count("[source") < least:
            raise Rejected(f"expected at least {least} sources")

The decorator registers nothing: the worker looks for decorated functions in the modules that its settings name.
"""

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import Field, field_validator

from durable_llm.contract.result import FunctionCall, ToolCall
from durable_llm.contract.wire import Strict, Wire

MAX_VALIDATORS: Final = 16
MAX_VALIDATORS_BYTES: Final = 64_000

_NAME: Final = r"[A-Za-z0-9_.-]{1,100}"


class Rejected(Exception):  # noqa: N818  # `raise Rejected("too long")` says what happens
    """Raised by a validator or tool parser that does not accept the answer. The text is the reason, for the ledger."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One choice of an answer, as a validator sees it."""

    text: str | None = None
    tool_calls: Sequence[ToolCall] = ()
    finish_reason: str | None = None
    parsed: Any = None
    """The JSON value of `text`, if the call asked for JSON."""
    reasoning_content: str | None = None
    model: str | None = None
    """The model that answered, as the provider names it."""
    messages: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    """The prompt."""


class ValidatorOnWire(Wire):
    """A validator as a worker reads it."""

    name: Annotated[str, Field(pattern=f"^{_NAME}$")]
    """Its name on the worker."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """Its keyword arguments as JSON values."""


class Validator(ValidatorOnWire, Strict):
    """A validator that an answer must pass, with its parameters.

    Raises:
        pydantic.ValidationError: (a ValueError) on an invalid name or an unknown field.
    """

    model_config = Strict.model_config

    @field_validator("name", mode="before")
    @classmethod
    def _name_is_no_function(cls, name: object) -> object:
        if callable(name):
            raise ValueError(HOW_TO_REGISTER)
        return name


HOW_TO_REGISTER: Final = (
    "a function cannot be sent to the worker; decorate it with @durable_llm.validator('name') or "
    "@tool_parser('name') in a module that the worker loads (DURABLE_LLM_PLUGINS), and write its name"
)

ValidatorLike = str | Mapping[str, Any] | Validator
"""A validator's name, {"name": ..., "parameters": {...}}, or a Validator."""


def to_validator(value: object) -> Validator:
    """A validator from what a caller wrote.

    Raises:
        ValueError: it is not a validator, or it is a function.
    """
    match value:
        case Validator():
            return value
        case str():
            return Validator(name=value)
        case Mapping():
            return Validator.model_validate(dict(value))
    raise ValueError(HOW_TO_REGISTER if callable(value) else "expected a name or {'name': ..., 'parameters': {...}}")


def to_parser_name(value: object) -> str:
    """The name of a tool parser.

    Raises:
        ValueError: it is not a name, or it is a function.
    """
    if isinstance(value, str) and re.fullmatch(_NAME, value):
        return value
    raise ValueError(HOW_TO_REGISTER if callable(value) else "expected the name of a tool parser")


@dataclass(frozen=True)
class Registration:
    """What a decorator stores on a function."""

    kind: Literal["validator", "tool parser"]
    name: str
    check: Callable[..., None] | None = None


_MARK: Final = "__durable_llm__"
_Validate = TypeVar("_Validate", bound=Callable[..., Awaitable[None] | None])
_Parse = TypeVar("_Parse", bound=Callable[[str, list[dict[str, Any]]], Iterable[ToolCall] | Awaitable[Any]])


def validator(name: str, *, check: Callable[..., None] | None = None) -> Callable[[_Validate], _Validate]:
    """Make a function a validator: `function(candidate, **parameters)`, plain or async.

    It rejects an answer by raising Rejected, ValueError or AssertionError. Any other exception means that the validator
    is broken and ends the call; so does returning False. Other return values are ignored.

    Args:
        name: The name that calls write.
        check: Called with the parameters before anything is sent; raises ValueError if they are invalid.
    """
    return _marking(Registration("validator", _checked(name), check))


def tool_parser(name: str) -> Callable[[_Parse], _Parse]:
    """Make a function a tool parser: `function(text, tools)` returns the tool calls that a model wrote as text.

    It gets the answer's text and the call's tools in OpenAI's shape, and returns [] if it finds no call. It rejects an
    answer as a validator does.

    Args:
        name: The name that calls write.
    """
    return _marking(Registration("tool parser", _checked(name)))


def registration_of(value: object) -> Registration | None:
    """What a decorator stored on `value`; None if it is neither a validator nor a tool parser."""
    found = getattr(value, _MARK, None)
    return found if isinstance(found, Registration) else None


def tool_call(name: str, arguments: Mapping[str, Any] | str) -> ToolCall:
    """A tool call for a parser to return; the worker generates its id."""
    text = arguments if isinstance(arguments, str) else json.dumps(dict(arguments), ensure_ascii=False)
    return ToolCall(function=FunctionCall(name=name, arguments=text))


def _marking(registration: Registration) -> Callable[[Any], Any]:
    def mark(function: Any) -> Any:
        setattr(function, _MARK, registration)
        return function

    return mark


def _checked(name: str) -> str:
    if not re.fullmatch(_NAME, name):
        raise ValueError(f"{name!r}: a name has up to 100 letters, digits, dots, hyphens and underscores")
    return name
