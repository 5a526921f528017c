"""Convert a Response of OpenAI's Responses API into a chat completion.

So the same code reads every answer, finds its defects and prices it. The Response is read from the wire, because a
background response does not come with the request that litellm converts.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ..litellm_setup import litellm

_WAITING: Final = frozenset({
    "custom_tool_call", "mcp_approval_request", "computer_call", "local_shell_call", "shell_call", "apply_patch_call",
})  # fmt: skip
"""Items that wait for something that is neither a message nor a function's result."""

_BILLED: Final = frozenset({
    "web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "shell_call",
})  # fmt: skip
"""Items of tools that the provider runs and bills by call, session or picture."""

_ENDS: Final = {"max_output_tokens": "length", "content_filter": "content_filter"}


def completion_of(value: Any) -> Any:
    """The Response `value` as litellm's chat completion. It has no choices if `value` is not a Response."""
    if not isinstance(value, Mapping) or not isinstance(value.get("output"), list):
        return litellm.ModelResponse(choices=[])
    items = [item for item in value["output"] if isinstance(item, Mapping)]
    return litellm.ModelResponse(
        id=value.get("id"),
        model=value.get("model"),
        choices=[_choice(items, value)],
        usage=_usage(value.get("usage")),
        service_tier=value.get("service_tier"),
    )


def forgets(value: Any) -> bool:
    """Whether a Response says that it continues no other. An id that differs may be a gateway's, and does not count."""
    return isinstance(value, Mapping) and "previous_response_id" in value and not value["previous_response_id"]


def unanswerable(value: Any) -> str | None:
    """The type of an item that waits for something else than a function's result. None: no such item."""
    kinds = _kinds(value)
    return next((kind for kind in kinds if kind in _WAITING and f"{kind}_output" not in kinds), None)


def uses_hosted_tools(value: Any) -> bool:
    """Whether a Response used tools that are billed in addition to tokens."""
    return any(kind in _BILLED for kind in _kinds(value))


def _kinds(value: Any) -> list[str]:
    """The types of a Response's items."""
    return [str(item.get("type")) for item in _mappings(value.get("output"))] if isinstance(value, Mapping) else []


def _choice(items: list[Mapping[str, Any]], value: Mapping[str, Any]) -> dict[str, Any]:
    parts = [part for item in items if item.get("type") == "message" for part in _mappings(item.get("content"))]
    texts = [part for part in parts if part.get("type") == "output_text"]
    calls = [_call(item) for item in items if item.get("type") == "function_call"]
    logprobs = [token for part in texts for token in _mappings(part.get("logprobs"))]
    return {
        "index": 0,
        "finish_reason": _finish_reason(value) or ("tool_calls" if calls else "stop"),
        "message": {
            "role": "assistant",
            "content": "".join(str(part.get("text") or "") for part in texts) or None,
            "tool_calls": calls or None,
            "reasoning_content": "\n\n".join(_reasoning(items)) or None,
        },
        **({"logprobs": {"content": logprobs}} if logprobs else {}),
    }


def _call(item: Mapping[str, Any]) -> dict[str, Any]:
    """A tool call with the id that its result must name."""
    function = {"name": item.get("name"), "arguments": item.get("arguments") or ""}
    return {"id": item.get("call_id") or item.get("id"), "type": "function", "function": function}


def _reasoning(items: list[Mapping[str, Any]]) -> Iterator[str]:
    """Summaries of the model's reasoning, or the reasoning itself from open models."""
    for item in items:
        if item.get("type") == "reasoning":
            for part in (*_mappings(item.get("summary")), *_mappings(item.get("content"))):
                if text := part.get("text"):
                    yield str(text)


def _finish_reason(value: Mapping[str, Any]) -> str | None:
    details = value.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, Mapping) else None
    return _ENDS.get(str(reason))


def _usage(usage: Any) -> dict[str, Any] | None:
    if not isinstance(usage, Mapping):
        return None
    read, written = usage.get("input_tokens") or 0, usage.get("output_tokens") or 0
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": usage.get("input_tokens_details"),
        "completion_tokens_details": usage.get("output_tokens_details"),
    }


def _mappings(values: Any) -> list[Mapping[str, Any]]:
    return [value for value in values if isinstance(value, Mapping)] if isinstance(values, list) else []
