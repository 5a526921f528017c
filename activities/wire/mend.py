"""Mend what litellm's decoders cannot read, before they see it, so that a valid answer is not lost.

Measured: an odd or missing usage, and fields that server-sent events may have (`id:`, `retry:`, comments, an empty
`data:`), each made litellm raise after a complete and paid answer. The record keeps the bytes as they came.
"""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Final

MOST_CHOICES: Final = 256
MOST_TOOL_CALLS: Final = 512
"""Of one choice."""

MOST_TOKENS: Final = 200_000
"""Log probabilities of one choice."""

MOST_OBJECTS: Final = 600_000
"""JSON objects of one body. Parsing more holds Python's lock for seconds."""

MOST_EVENTS: Final = 500_000
LONGEST_LINE: Final = 8 * 1024 * 1024
"""Bytes of one line of an event stream."""

LARGEST_COUNT: Final = 10**12
"""A larger count of tokens is a mistake."""

_USAGES: Final = ("usage", "usageMetadata")
_COUNTS: Final = frozenset({"prompt_eval_count", "eval_count", "tokenCount"})
_OBJECTS: Final = frozenset({"server_tool_use", "cache_creation", "billed_units"})
_LISTS: Final = frozenset({"iterations", "input_tokens_by_modality", "output_tokens_by_modality"})


class OversizedError(Exception):
    """A response has more parts than any answer. litellm would keep the worker busy with it for minutes."""


def has_sound_usage(value: Any) -> bool:
    """Whether a response's JSON value counts tokens, and every count is a number that can be one."""
    return isinstance(value, Mapping) and any(value.get(name) and _is_sound(value[name]) for name in _USAGES)


def mend_body(body: bytes) -> bytes:
    """A response's JSON body with a usage that litellm can read: an odd one counts nothing.

    Raises:
        OversizedError: it has too many parts.
    """
    if body.count(b"{") > MOST_OBJECTS:
        raise OversizedError(f"more than {MOST_OBJECTS} JSON objects")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return body
    if not isinstance(value, dict):
        return body
    _check_parts(value)
    return json.dumps(value).encode() if _mend(value) else body


async def mend_stream(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """An event stream without fields that litellm cannot read, and with a usage that it can.

    Raises:
        OversizedError: it has too many events, or too long a line.
    """
    pending: list[bytes] = []  # of a line without its end; joined once, since a line may come in many pieces
    length, events = 0, 0
    async for piece in pieces:
        before, newline, _ = piece.partition(b"\n")
        length += len(before)
        events += piece.count(b"\n")
        if events > 3 * MOST_EVENTS or length > LONGEST_LINE:
            raise OversizedError(f"more than {MOST_EVENTS} events, or a line above {LONGEST_LINE} bytes")
        pending.append(piece)
        if newline:
            *lines, rest = b"".join(pending).split(b"\n")
            pending, length = [rest], len(rest)
            if mended := b"".join(_mended_lines(lines)):
                yield mended
    if rest := b"".join(pending):
        yield rest


def _mended_lines(lines: list[bytes]) -> Iterator[bytes]:
    for line in lines:
        name, _, data = line.strip().partition(b":")
        if (line.strip() and name in (b"", b"id", b"retry")) or (name == b"data" and not data.strip()):
            continue
        counts = name == b"data" and any(usage.encode() in data for usage in _USAGES)
        yield (b"data: " + mend_body(data.strip()) if counts else line) + b"\n"


def _check_parts(value: Mapping[str, Any]) -> None:
    for name in ("choices", "candidates", "output"):
        listed = value.get(name)
        if not isinstance(listed, list):
            continue
        _check_count(listed, MOST_CHOICES, name)
        for choice in listed:
            _check_count(_at(choice, "message", "tool_calls"), MOST_TOOL_CALLS, "tool calls of one choice")
            _check_count(_at(choice, "logprobs", "content"), MOST_TOKENS, "tokens with log probabilities")


def _check_count(listed: Any, most: int, what: str) -> None:
    if isinstance(listed, list) and len(listed) > most:
        raise OversizedError(f"{len(listed)} {what}, and an answer has at most {most}")


def _at(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _mend(value: dict[str, Any]) -> bool:
    """Mend a JSON value. Returns whether it has changed."""
    changed = False
    for holder in (value, value.get("message"), value.get("response")):
        if not isinstance(holder, dict):
            continue
        for name in _USAGES:
            if holder.get(name) is not None and not _is_sound(holder[name]):
                holder[name] = _nothing(holder, value)
                changed = True
        google = holder.get("usageMetadata")
        if google and None in google.values():  # litellm adds Google's counts up
            holder["usageMetadata"] = {name: count for name, count in google.items() if count is not None}
            changed = True
    # Without a usage litellm refuses Google's and Anthropic's answers.
    if value.get("candidates") and not isinstance(value.get("usageMetadata"), dict):
        value["usageMetadata"], changed = {}, True
    if value.get("type") == "message" and not isinstance(value.get("usage"), dict):
        value["usage"], changed = {"input_tokens": 0, "output_tokens": 0}, True
    return changed


def _nothing(holder: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, int] | None:
    """A usage of nothing, in the provider's shape."""
    if "usageMetadata" in holder:
        return {}
    if str(value.get("type", "")).startswith("message"):
        return {"input_tokens": 0, "output_tokens": 0}
    return None


def _is_sound(usage: Any, depth: int = 4) -> bool:
    """Whether every value has the type that litellm expects under its name, as far as the name tells it."""
    return isinstance(usage, Mapping) and depth > 0 and all(_fits(str(name), usage[name], depth) for name in usage)


def _fits(name: str, value: Any, depth: int) -> bool:
    if value is None:
        return True
    if name.lower().endswith(("_tokens", "tokencount", "tokens", "_requests", "_queries")) or name in _COUNTS:
        return _is_count(value) or (name == "tokens" and _is_sound(value, depth - 1))  # Cohere's `tokens` is an object
    if name == "cost":
        return isinstance(value, int | float | Mapping) and not isinstance(value, bool)
    if name.endswith("Details") or name in _LISTS:
        return isinstance(value, list) and all(_is_sound(item, depth - 1) for item in value)
    if name.endswith("_details") or name in _OBJECTS or isinstance(value, Mapping):
        return _is_sound(value, depth - 1)
    return True


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_COUNT
