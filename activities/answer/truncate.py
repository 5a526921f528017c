"""Cut an answer to a size that Temporal stores. It was paid for, so as much as possible is kept.

Log probabilities go first, then the reasoning, choices and tool calls beyond a limit, and the ends of the longest texts
and arguments. Short texts are not cut.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from durable_llm.contract.request import MAX_ANSWER_BYTES
from durable_llm.contract.result import Answer, Choice

MOST_CHOICES: Final = 128
"""OpenAI's limit."""

MOST_TOOL_CALLS: Final = 32
"""Per choice of an answer that is too large. Without their texts they fit."""

_SAFETY: Final = 0.9
"""Part of the allowed size for cut texts."""

_MARK: Final = "…"


def truncate(answer: Answer, limit: int = MAX_ANSWER_BYTES) -> Answer:
    """`answer` in at most `limit` bytes of JSON. `truncated` says whether something is missing."""
    for step in (_without_logprobs, _without_reasoning, _with_fewer_parts, _with_short_texts):
        if _size(answer) <= limit:
            return answer
        answer = step(answer, limit).model_copy(update={"truncated": True})
    return answer


def _size(answer: Answer) -> int:
    return len(answer.model_dump_json().encode())


def _without_logprobs(answer: Answer, _limit: int) -> Answer:
    return answer.model_copy(update={"choices": [c.model_copy(update={"logprobs": None}) for c in answer.choices]})


def _without_reasoning(answer: Answer, _limit: int) -> Answer:
    without: dict[str, Any] = {"reasoning_content": None, "thinking_blocks": [], "provider_specific_fields": None}
    return answer.model_copy(update={"choices": [choice.model_copy(update=without) for choice in answer.choices]})


def _with_fewer_parts(answer: Answer, _limit: int) -> Answer:
    first = answer.choices[:MOST_CHOICES]
    choices = [choice.model_copy(update={"tool_calls": choice.tool_calls[:MOST_TOOL_CALLS]}) for choice in first]
    return answer.model_copy(update={"choices": choices})


def _with_short_texts(answer: Answer, limit: int) -> Answer:
    """The choices with each text, argument and id cut so that all of them fit."""
    choices = [choice.model_dump() for choice in answer.choices]
    weights = [_weight(text) for text in _texts(choices)]
    most = _level(weights, (limit - (_size(answer) - sum(weights))) * _SAFETY)
    return answer.model_copy(update={"choices": [Choice.model_validate(_cut(choice, most)) for choice in choices]})


def _level(weights: Sequence[int], room: float) -> float:
    """The largest size of one text so that all fit into `room` bytes. Short texts leave room for long ones."""
    left = len(weights)
    for weight in sorted(weights):
        if weight * left > room:
            return room / left
        room -= weight
        left -= 1
    return float("inf")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def _cut(value: Any, most: float) -> Any:
    if isinstance(value, str):
        return value if _weight(value) <= most else _start(value, most)
    if isinstance(value, dict):
        return {name: _cut(inner, most) for name, inner in value.items()}
    return [_cut(inner, most) for inner in value] if isinstance(value, list) else value


def _start(text: str, room: float) -> str:
    """The start of `text` in at most `room` bytes, with a mark if it is cut."""
    end = len(text)
    while (weight := _weight(text[:end])) > room and end:
        end = min(end - 1, int(end * max(room, 0) / weight))
    return text[:end] + _MARK


def _weight(text: str) -> int:
    """Bytes of `text` inside JSON."""
    return len(json.dumps(text, ensure_ascii=False).encode(errors="replace"))
