"""Which tools an answer may call. A model may call unknown tools, or none although a call is required."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from durable_llm.contract.config import ModelSpecOnWire
from durable_llm.contract.facts import AnswerDefect
from durable_llm.contract.request import Prompt
from durable_llm.contract.result import Choice

from ..answer.defects import Defect
from ..request.tool_shapes import CALLERS_KINDS, tool_name, tools_in_body

_PROVIDERS_OWN: Final = ("web_search_options",)
"""Parameters that switch on a provider's own tools. litellm lists their calls among the others."""


class OfferedTools(NamedTuple):
    """The tools that an answer may call."""

    names: frozenset[str] | None
    """Names. None: not all of them are known here."""
    required: bool = False
    """Whether a call is required."""
    forbidden: bool = False
    """Whether a call is forbidden."""


def offered_tools(spec: ModelSpecOnWire, prompt: Prompt) -> OfferedTools:
    """The tools that a model is offered: the prompt's, or its spec's."""
    parameters = spec.extra_params
    choice = prompt.tool_choice if prompt.tool_choice is not None else parameters.get("tool_choice")
    if choice == "none":
        return OfferedTools(frozenset(), forbidden=True)
    if any(name in parameters for name in _PROVIDERS_OWN) or tools_in_body(parameters):
        return OfferedTools(None)
    tools = _all_tools(spec, prompt)
    named = tool_name(choice)
    if named is not None and named in map(tool_name, filter(_is_callers, tools)):
        return OfferedTools(frozenset({named}), required=True)
    names = [tool_name(tool) for tool in tools]
    known = None if None in names else frozenset(filter(None, names))
    return OfferedTools(known, required=choice == "required" and bool(tools) and all(map(_is_callers, tools)))


def callers_tools(spec: ModelSpecOnWire, prompt: Prompt) -> list[dict[str, Any]]:
    """The tools that the caller runs, in the format of Chat Completions."""
    return [_as_in_chat(tool) for tool in _all_tools(spec, prompt) if _is_callers(tool)]


def tool_call_defect(choice: Choice, offered: OfferedTools) -> Defect | None:
    """The defect of a choice's tool calls, if there is one."""
    if offered.required and not choice.tool_calls:
        return Defect(AnswerDefect.NO_TOOL_CALL, choice.finish_reason, "a tool call was demanded; the model made none")
    if offered.names is None:
        return None
    for name in (call.function.name for call in choice.tool_calls):
        if name not in offered.names:
            listed = f"offered: {', '.join(sorted(offered.names)) or 'none'}"
            text = f"calls {name!r}; {'none was allowed' if offered.forbidden else listed}"
            return Defect(AnswerDefect.UNKNOWN_TOOL, choice.finish_reason, text)
    return None


def _is_callers(tool: Any) -> bool:
    """Whether the caller runs a tool. The provider runs the others and reports no call."""
    return tool_name(tool) is not None and tool.get("type", "function") in CALLERS_KINDS


def _all_tools(spec: ModelSpecOnWire, prompt: Prompt) -> list[Any]:
    """All tools in the request, in any format."""
    own = spec.extra_params.get("tools") if prompt.tools is None else prompt.tools
    tools = tools_in_body(spec.extra_params) or own
    return tools if isinstance(tools, list) else []


def _as_in_chat(tool: Mapping[str, Any]) -> dict[str, Any]:
    if any(isinstance(tool.get(kind), Mapping) for kind in CALLERS_KINDS):
        return dict(tool)
    kind = tool.get("type", "function")
    return {"type": kind, kind: {name: value for name, value in tool.items() if name != "type"}}
