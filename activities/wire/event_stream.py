"""Fold an event stream into the JSON value that the provider would have sent without streaming.

litellm ends a cut stream with an invented finish reason ("stop"), and some SDKs skip events that they cannot read. So
the defects of a streamed answer are found in the events on the wire, by the same rules as for every answer.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from .error_body import holds_error

_CUT: Final = {"choices": [{"error": True}]}
"""The folded value of a stream without an end, in the format of gateways."""

_END_MARKER: Final = "[DONE]"
_ENDS: Final = ("done_reason", "finish_reason", "stop_reason")


class _Events(NamedTuple):
    values: list[Any]

    def typed(self, *types: str) -> list[Mapping[str, Any]]:
        return [value for value in self.values if isinstance(value, Mapping) and value.get("type") in types]


def is_event_stream(content_type: str, start: bytes) -> bool:
    """Whether a body is an event stream, by its type or its start: some servers send no type."""
    kind = content_type.partition(";")[0].strip().lower()
    named = kind in ("text/event-stream", "application/x-ndjson", "application/stream+json")
    return named or start.lstrip().startswith((b"data:", b"event:"))


def fold(body: bytes) -> Any:
    """The stream's error event, or the ends, refusals and usage of the answer.

    Texts are not folded, because litellm reads them. A choice without an end is marked as an error. None: no events, or
    an unreadable one.
    """
    try:
        return _fold(_read(body))
    except (ValueError, TypeError, AttributeError, RecursionError):  # not JSON, or an unexpected shape
        return None


def _fold(events: _Events) -> Any:
    error = next((value for value in events.values if holds_error(value)), None)
    if error is not None or not events.values:
        return error
    if any(isinstance(value, Mapping) and "choices" in value for value in events.values):
        return _fold_choices(events, "choices", "finish_reason")
    if any(isinstance(value, Mapping) and "candidates" in value for value in events.values):
        return _fold_choices(events, "candidates", "finishReason")
    if events.typed("message_start"):
        return _fold_message(events)
    if ended := events.typed("response.completed", "response.incomplete", "response.failed"):
        return ended[-1].get("response")
    return _fold_others(events)


def _read(body: bytes) -> _Events:
    """All complete events.

    Raises:
        ValueError: one of them is not JSON.
    """
    text = body.decode(errors="replace").replace("\r\n", "\n")
    if text.lstrip()[:1] == "{":
        lines = text.split("\n")[:-1]  # a line without its end was cut
        return _Events([json.loads(line) for line in lines if line.strip()])
    return _Events([_value(name, data) for name, data in _events(text) if data.strip() not in ("", _END_MARKER)])


def _events(text: str) -> Iterator[tuple[str, str]]:
    """Names and data. A blank line ends an event; an event without it was cut."""
    for block in text.split("\n\n")[:-1]:
        fields = [line.partition(":") for line in block.split("\n")]
        data = [value.removeprefix(" ") for name, _, value in fields if name == "data"]
        if data:
            yield next((value.strip() for name, _, value in fields if name == "event"), ""), "\n".join(data)


def _value(name: str, data: str) -> Any:
    """The event's JSON value. An event named "error" is an error, whatever its data."""
    if name != "error":
        return json.loads(data)
    try:
        value = json.loads(data)
    except ValueError:
        value = {"message": data}
    return value if holds_error(value) else {"error": value}


def _fold_choices(events: _Events, listed: str, finish: str) -> Any:
    """Fold chunks of OpenAI or Google. A finish reason is the end: not every server sends `[DONE]` after it."""
    choices: dict[int, dict[str, Any]] = {}
    folded: dict[str, Any] = {}
    for value in events.values:
        folded.update({name: value[name] for name in ("usage", "usageMetadata", "promptFeedback") if value.get(name)})
        for choice in value.get(listed) or ():
            _add(choices.setdefault(choice.get("index") or 0, {}), choice)
    for choice in choices.values():
        if not choice.get(finish):
            choice["error"] = True
    if not choices and "promptFeedback" not in folded:
        return {**folded, **_CUT}
    return {**folded, listed: [choices[index] for index in sorted(choices)]}


def _add(choice: dict[str, Any], piece: Mapping[str, Any]) -> None:
    told = ("finish_reason", "native_finish_reason", "finishReason", "finishMessage", "error")
    choice.update({name: piece[name] for name in told if piece.get(name)})
    delta = piece.get("delta")
    if isinstance(delta, Mapping) and isinstance(delta.get("refusal"), str):
        message = choice.setdefault("message", {"refusal": ""})
        message["refusal"] += delta["refusal"]


def _fold_message(events: _Events) -> Any:
    """Fold Anthropic's events."""
    if not events.typed("message_stop"):
        return _CUT
    message = events.typed("message_start")[0].get("message")
    folded = dict(message) if isinstance(message, Mapping) else {}
    for event in events.typed("message_delta"):
        folded.update(event.get("delta") or {})
    return folded if folded.get("stop_reason") else _CUT


def _fold_others(events: _Events) -> Any:
    """Fold events of Ollama or Cohere. The last one has the end."""
    last = events.values[-1]
    delta = last.get("delta")
    folded = {**last, **(delta if isinstance(delta, Mapping) else {})}
    return folded if any(folded.get(name) for name in _ENDS) else _CUT
