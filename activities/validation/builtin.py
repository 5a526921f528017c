"""The validators and tool parsers that every worker has."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from durable_llm.contract.result import ToolCall
from durable_llm.contract.validation import Candidate, Rejected, tool_call, tool_parser, validator

from ..request.tool_shapes import tool_name
from .schema import check_schema, read_and_check, read_json

_CALL = re.compile(r"<tool_call>(.*?)(?:</tool_call>|$)", re.DOTALL)
_ARGUMENTS: Final = ("arguments", "parameters")


@validator("non_empty")
def non_empty(candidate: Candidate) -> None:
    """The answer has text. A tool call is not enough."""
    if not (candidate.text or "").strip():
        raise Rejected("there is no text")


def _check_regex(pattern: str, full: bool = False) -> None:  # noqa: ARG001  # takes the same parameters as the validator
    try:
        re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ValueError(f"pattern: {error}") from None


@validator("regex", check=_check_regex)
def matches(candidate: Candidate, *, pattern: str, full: bool = False) -> None:
    """`pattern` matches in the text, or the complete text if `full`."""
    if not (re.fullmatch if full else re.search)(pattern, candidate.text or ""):
        raise Rejected(f"the text does not match {pattern!r}")


def _check_schema(schema: Mapping[str, Any]) -> None:
    check_schema(json.dumps(schema))


@validator("json_schema", check=_check_schema)
def follows_schema(candidate: Candidate, *, schema: Mapping[str, Any]) -> None:
    """The text is JSON that follows `schema`."""
    read_and_check(candidate.text or "", json.dumps(schema))


def _check_length(characters: int) -> None:
    if isinstance(characters, bool) or not isinstance(characters, int) or characters < 1:
        raise ValueError("characters: expected a number from 1")


@validator("max_length", check=_check_length)
def max_length(candidate: Candidate, *, characters: int) -> None:
    """The text is not longer than the limit, in characters."""
    if (length := len(candidate.text or "")) > characters:
        raise Rejected(f"the text has {length:,} characters and the limit is {characters:,}")


@tool_parser("json")
def from_json(text: str, tools: list[dict[str, Any]]) -> list[ToolCall]:
    """The text is a call {"name": ..., "arguments": {...}} of one of the tools, or a list of calls.

    Any other text is an answer, even other JSON with a name.
    """
    try:
        _, value = read_json(text)
    except Rejected:
        return []
    calls = value if isinstance(value, list) else [value]
    names = [tool_name(tool) for tool in tools]
    named = all(isinstance(call, dict) and call.get("name") in names for call in calls)
    return [_call(call) for call in calls] if named else []


@tool_parser("hermes")
def from_hermes(text: str, tools: list[dict[str, Any]]) -> list[ToolCall]:  # noqa: ARG001  # every parser takes them
    """Each call is JSON between <tool_call> and </tool_call>, as Hermes, Qwen and others write it."""
    return list(_tagged(text))


def _tagged(text: str) -> Iterator[ToolCall]:
    for inner in _CALL.findall(text):
        try:
            value = json.loads(inner)
        except ValueError:
            raise Rejected("a <tool_call> does not hold JSON") from None
        yield _call(value)


def _call(value: Any) -> ToolCall:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise Rejected("a tool call has no name")
    arguments: Any = next((value[field] for field in _ARGUMENTS if field in value), {})
    return tool_call(value["name"], arguments if isinstance(arguments, str) else json.dumps(arguments))
