"""Prompts and answers in the shape of the GenAI conventions, for a worker that is told to export them.

Off by default: more people read a trace backend than a namespace's history, and it often belongs to another company.
Keys are always removed.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from durable_llm.contract.request import Prompt
from durable_llm.contract.result import Choice, ToolCall

Clean = Callable[[str], str]
"""Removes keys from a text, and cuts it to a size that a backend accepts."""


def input_messages(prompt: Prompt, clean: Clean) -> str:
    """`gen_ai.input.messages`."""
    return json.dumps([{"role": each["role"], "parts": _parts(each, clean)} for each in prompt.messages])


def tool_definitions(prompt: Prompt, clean: Clean) -> str:
    """`gen_ai.tool.definitions`: names and descriptions, without schemas."""
    functions = [tool.get("function") or {} for tool in prompt.tools or ()]
    return json.dumps([
        {"type": "function", "name": each.get("name"), "description": clean(str(each.get("description") or ""))}
        for each in functions
    ])  # fmt: skip


def output_messages(choices: Sequence[Choice], clean: Clean) -> str:
    """`gen_ai.output.messages`."""
    return json.dumps([_answer(choice, clean) for choice in choices])


def _answer(choice: Choice, clean: Clean) -> dict[str, Any]:
    text = [_text(choice.text, clean)] if choice.text else []
    calls = [_tool_call(call, clean) for call in choice.tool_calls]
    return {"role": "assistant", "parts": text + calls, "finish_reason": choice.finish_reason or ""}


def _parts(message: Mapping[str, Any], clean: Clean) -> list[dict[str, Any]]:
    content = message.get("content")
    if message["role"] == "tool":
        return [{"type": "tool_call_response", "id": message.get("tool_call_id"), "response": clean(_plain(content))}]
    parts = [_text(content, clean)] if isinstance(content, str) else [_part(part, clean) for part in content or ()]
    calls = [ToolCall.model_validate(call) for call in message.get("tool_calls") or ()]
    return parts + [_tool_call(call, clean) for call in calls]


def _part(part: Any, clean: Clean) -> dict[str, Any]:
    """A part of a message. Of an image or a file only the type is shown."""
    if isinstance(part, Mapping) and isinstance(part.get("text"), str):
        return _text(part["text"], clean)
    return {"type": str(part.get("type", "unknown")) if isinstance(part, Mapping) else "unknown"}


def _text(text: str, clean: Clean) -> dict[str, Any]:
    return {"type": "text", "content": clean(text)}


def _tool_call(call: ToolCall, clean: Clean) -> dict[str, Any]:
    return {
        "type": "tool_call", "id": call.id, "name": call.function.name, "arguments": clean(call.function.arguments),
    }  # fmt: skip


def _plain(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content)
