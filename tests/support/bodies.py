"""Answers as four providers' wires have them, and what was asked on one."""

import json
from typing import Any


def openai(*choices: dict, text: str = "seven", **fields: Any) -> dict:
    """A completion of OpenAI's; without choices, one that says `text`."""
    said = choices or ({"message": {"role": "assistant", "content": text}, "finish_reason": "stop"},)
    return {
        "id": "x", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": index, **choice} for index, choice in enumerate(said)],
        "usage": {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}, **fields,
    }  # fmt: skip


def choice(finish_reason: str = "stop", logprobs: dict | None = None, **message: Any) -> dict:
    """One choice of a completion."""
    told = {"message": {"role": "assistant", "content": None, **message}, "finish_reason": finish_reason}
    return told if logprobs is None else {**told, "logprobs": logprobs}


def anthropic(*content: dict, **fields: Any) -> dict:
    """A message of Anthropic's; without content, one that says "seven"."""
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-4-5",
        "content": list(content) or [{"type": "text", "text": "seven"}], "stop_reason": "end_turn",
        "stop_sequence": None, "usage": {"input_tokens": 12, "output_tokens": 3}, **fields,
    }  # fmt: skip


def gemini(*parts: dict, **fields: Any) -> dict:
    """A response of Google's; without parts, one that says "seven"."""
    said = list(parts) or [{"text": "seven"}]
    return {
        "candidates": [{"content": {"role": "model", "parts": said}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 12, "candidatesTokenCount": 3, "totalTokenCount": 15},
        "modelVersion": "gemini-2.5-flash", "responseId": "r1", **fields,
    }  # fmt: skip


def response(text: str = "seven", **fields: Any) -> dict:
    """A response of OpenAI's other API."""
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {
        "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "error": None, "tools": [],
        "model": "gpt-4o-mini-2024-07-18", "incomplete_details": None, "instructions": None, "metadata": {},
        "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto", "top_p": 1.0,
        "output": [{"id": "m", "type": "message", "role": "assistant", "status": "completed", "content": content}],
        "usage": {"input_tokens": 12, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 3,
                  "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 15}, **fields,
    }  # fmt: skip


def events(*values: dict, named: bool = False) -> str:
    """A stream of server-sent events; Anthropic's have names."""
    return "".join(
        (f"event: {value['type']}\n" if named else "") + f"data: {json.dumps(value)}\n\n" for value in values
    )


def sent(request: bytes) -> dict:
    """The JSON body of a request."""
    body: dict = json.loads(request.partition(b"\r\n\r\n")[2])
    return body
