"""Whether an HTTP 200 is an answer, read from the bytes on the wire.

litellm invents finish reasons ("stop" for a cut answer and for an upstream error) and turns a blocked prompt into an
empty answer. So the provider's own fields decide, in each provider's format.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from durable_llm.contract.facts import AnswerDefect
from durable_llm.contract.result import Choice

from ..wire.error_body import holds_error

_FILTERED: Final = frozenset({
    "content_filter", "content_filtered", "content-filter", "safety", "prohibited_content", "blocklist", "spii",
    "recitation", "image_safety", "image_prohibited_content", "image_recitation", "language", "model_armor",
    "guardrail_intervened", "error_toxic", "sensitive",
})  # fmt: skip
_LENGTH: Final = frozenset({"length", "max_tokens", "max_output_tokens", "model_length", "max_length"})
_OUT_OF_WINDOW: Final = frozenset({
    "model_context_window_exceeded", "context_window_exceeded", "context_length_exceeded", "context_length",
    "max_context_length",
})  # fmt: skip
_UNFINISHED: Final = frozenset({"pause_turn", "paused", "in_progress", "queued", "requires_action"})
_BROKEN_CALL: Final = frozenset({
    "malformed_function_call", "unexpected_tool_call", "too_many_tool_calls", "missing_thought_signature",
    "malformed_tool_use", "malformed_model_output", "malformed_response", "error_tool_call",
})  # fmt: skip
_CUT: Final = frozenset(
    {
        "error",
        "insufficient_system_resource",
        "network_error",
        "abort",
        "cancelled",
        "engine_error",
        "failed",
        "incomplete",
    }
)
_REFUSED: Final = frozenset({"refusal"})

_STANDARD: Final[Mapping[str, str]] = {
    **dict.fromkeys(("stop", "end_turn", "stop_sequence", "eos", "eos_token", "eos_found", "complete", "completed",
                     "finish", "finished", "done", "end", "load"), "stop"),
    **dict.fromkeys(_LENGTH, "length"),
    **dict.fromkeys(("tool_calls", "tool_use", "tool_call", "function_call"), "tool_calls"),
}  # fmt: skip
"""OpenAI's finish reason for each provider's."""


class ChoiceEnd(NamedTuple):
    """The end of one choice in its provider's words."""

    finish_reason: str | None = None
    refusal: str | None = None
    explanation: str | None = None
    error: bool = False


class Defect(NamedTuple):
    """What is wrong with an answer, and the provider's words for it."""

    kind: AnswerDefect
    finish_reason: str | None = None
    text: str = ""


def body_defect(body: bytes, value: Any, ends: list[ChoiceEnd] | None = None) -> Defect | None:
    """The defect that the body of a 200 shows by itself.

    Args:
        body: The bytes.
        value: Their JSON value. None: they have none.
        ends: Ends of the choices, if they are known already.
    """
    if value is None:
        return Defect(_unreadable(body))
    if holds_error(value):
        return Defect(AnswerDefect.ERROR_BODY)
    if not isinstance(value, dict):
        return Defect(AnswerDefect.UNREADABLE)
    blocked = value.get("promptFeedback")
    if isinstance(blocked, Mapping) and blocked.get("blockReason"):
        text = str(blocked.get("blockReasonMessage") or "the prompt was blocked")
        return Defect(AnswerDefect.CONTENT_FILTER, str(blocked["blockReason"]), text)
    end = choice_ends(value) if ends is None else ends
    if len(end) == 1 and (defect := _by_finish(end[0])):
        return defect
    if value.get("output") == []:  # a Response without output, for which litellm raises
        finish = end[0].finish_reason if end else None
        return Defect(AnswerDefect.LENGTH if finish in _LENGTH else AnswerDefect.EMPTY, finish)
    return None


def choices_defect(choices: list[Choice], ends: list[ChoiceEnd]) -> Defect | None:
    """The defect of all `choices`. None: one of them is an answer."""
    if not choices:
        return Defect(AnswerDefect.EMPTY, ends[0].finish_reason if ends else None)
    defects = [choice_defect(choice, _end_of(ends, index)) for index, choice in enumerate(choices)]
    return None if None in defects else defects[0]


def choice_defect(choice: Choice, end: ChoiceEnd) -> Defect | None:
    """The defect of one choice. None: it is an answer."""
    if defect := _by_finish(end):
        return defect
    finish = end.finish_reason or choice.finish_reason
    spent = (finish or "").lower() in _LENGTH
    if any(not _is_object(call.function.arguments) for call in choice.tool_calls):
        return Defect(AnswerDefect.LENGTH if spent else AnswerDefect.INVALID_TOOL_ARGUMENTS, finish)
    if not choice.tool_calls and not (choice.text or "").strip():
        return Defect(AnswerDefect.LENGTH if spent else AnswerDefect.EMPTY, finish)
    return None


def finish_reason(choice: Choice, end: ChoiceEnd) -> str | None:
    """The choice's finish reason: the wire's, in OpenAI's word if it has one, otherwise as the provider wrote it.

    litellm's is kept only where the wire has none, and for tool calls that a provider ends with "stop".
    """
    if end.finish_reason is None:
        return choice.finish_reason
    standard = _STANDARD.get(end.finish_reason.lower(), end.finish_reason)
    return "tool_calls" if standard == "stop" and choice.tool_calls else standard


def cut_by_window(ends: list[ChoiceEnd]) -> list[ChoiceEnd]:
    """`ends` with "length" where the context window ended a choice: no other model follows that could do better."""
    return [
        end._replace(finish_reason="length") if (end.finish_reason or "").lower() in _OUT_OF_WINDOW else end
        for end in ends
    ]


def choice_ends(value: Any) -> list[ChoiceEnd]:
    """The end of each choice, in the format of OpenAI, Anthropic, Google, Cohere, Amazon or Ollama."""
    if not isinstance(value, Mapping):
        return []
    for name in ("choices", "candidates"):
        if isinstance(listed := value.get(name), list):
            return [_of_choice(choice) for choice in listed if isinstance(choice, Mapping)]
    if isinstance(value.get("output"), list) and "status" in value:
        return [_of_response(value)]
    finish = next(
        (value[name] for name in ("stop_reason", "stopReason", "finish_reason", "done_reason") if value.get(name)), None
    )
    details = value.get("stop_details")
    explanation = details.get("explanation") if isinstance(details, Mapping) else None
    return [ChoiceEnd(_text(finish), explanation=_text(explanation))]


def _of_choice(choice: Mapping[str, Any]) -> ChoiceEnd:
    message = choice.get("message")
    finish, native = choice.get("finish_reason") or choice.get("finishReason"), choice.get("native_finish_reason")
    return ChoiceEnd(
        finish_reason=_text(native if finish in (None, "stop", "error", "length") and _is_known(native) else finish)
        or _text(native),
        refusal=_text(message.get("refusal")) if isinstance(message, Mapping) else None,
        explanation=_text(choice.get("finishMessage")),
        error=bool(choice.get("error")),
    )


def _of_response(value: Mapping[str, Any]) -> ChoiceEnd:
    """The end of a Response of OpenAI's Responses API."""
    contents = [item.get("content") for item in value["output"] if isinstance(item, Mapping)]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    refusal = next((part.get("refusal") for part in parts if isinstance(part, Mapping) and part.get("refusal")), None)
    details = value.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, Mapping) else None
    return ChoiceEnd(_text(reason) or _text(value["status"]), _text(refusal))


def _is_known(native: Any) -> bool:
    """Whether a gateway's native finish reason says more than its own, which it maps by itself."""
    known = (_FILTERED, _BROKEN_CALL, _CUT, _REFUSED, _OUT_OF_WINDOW, _UNFINISHED)
    return isinstance(native, str) and any(native.lower() in names for names in known)


def _by_finish(end: ChoiceEnd) -> Defect | None:
    finish = end.finish_reason
    low = (finish or "").lower()
    if end.refusal or low in _REFUSED:
        return Defect(AnswerDefect.REFUSAL, finish, end.refusal or end.explanation or "")
    for names, defect in (
        (_FILTERED, AnswerDefect.CONTENT_FILTER),
        (_OUT_OF_WINDOW, AnswerDefect.OUT_OF_WINDOW),
        (_UNFINISHED, AnswerDefect.UNFINISHED),
        (_BROKEN_CALL, AnswerDefect.INVALID_TOOL_ARGUMENTS),
        (_CUT, AnswerDefect.CUT),
    ):
        if low in names:
            return Defect(defect, finish, end.explanation or "")
    return Defect(AnswerDefect.CUT, finish) if end.error else None


def _end_of(ends: list[ChoiceEnd], index: int) -> ChoiceEnd:
    return ends[index] if index < len(ends) else ChoiceEnd()


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _is_object(arguments: str) -> bool:
    try:
        return isinstance(json.loads(arguments or "{}"), dict)
    except (ValueError, RecursionError):
        return False


def _unreadable(body: bytes) -> AnswerDefect:
    """CUT for JSON that stops before its end, UNREADABLE for everything else."""
    text = body.decode(errors="ignore").strip()
    return (
        AnswerDefect.CUT
        if (text[:1] in ("{", "[") and not text.endswith(("}", "]"))) or _stops_early(text)
        else AnswerDefect.UNREADABLE
    )


def _stops_early(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return text[:1] in ("{", "[") and error.pos >= len(text) - 1
    except (ValueError, RecursionError):  # a huge number or too much depth
        return False
    return False
