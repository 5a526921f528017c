"""Tools on their way to a provider, and whether an answer's tool calls are calls of what was offered.

litellm passes on what some providers refuse (an empty list of tool calls in a message) and drops what others would take
(Mistral's choice of one tool). A model may call what nobody offered; a server may ignore that a call was demanded.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from durable_llm.contract.config import ModelSpecOnWire
from durable_llm.contract.facts import AnswerDefect
from durable_llm.contract.request import Prompt
from durable_llm.contract.result import Choice

from ..answer.defects import Verdict

_CALLERS_KINDS: Final = ("function", "custom")
_NEED_TOOLS: Final = ("tool_choice", "parallel_tool_calls")
_DROPS_NAMED_CHOICE: Final = frozenset({"mistral"})
_OWN_WORDS: Final = frozenset({
    "anthropic", "bedrock", "bedrock_converse", "cohere", "cohere_chat", "gemini", "ollama", "ollama_chat", "vertex_ai",
})  # fmt: skip
"""Providers with a word of their own for a choice, which litellm puts it into, wherever the tools are."""

_PROVIDERS_OWN: Final = ("web_search_options",)
"""Parameters with which a provider offers tools of its own, whose calls litellm lists among the others."""


class Offer(NamedTuple):
    """The tools that an answer may call."""

    names: frozenset[str] | None
    """None: not all of them are known here."""
    required: bool = False
    """Whether there must be a call."""
    forbidden: bool = False
    """Whether there must be none."""


def offer(spec: ModelSpecOnWire, prompt: Prompt) -> Offer:
    """What a model is offered: the prompt's tools, else its spec's own."""
    parameters = spec.extra_params
    choice = prompt.tool_choice if prompt.tool_choice is not None else parameters.get("tool_choice")
    if choice == "none":
        return Offer(frozenset(), forbidden=True)
    if any(name in parameters for name in _PROVIDERS_OWN) or _in_body(parameters):
        return Offer(None)
    tools = _all_tools(spec, prompt)
    named = tool_name(choice)
    if named is not None and named in map(tool_name, filter(_is_callers, tools)):
        return Offer(frozenset({named}), required=True)
    names = [tool_name(tool) for tool in tools]
    known = None if None in names else frozenset(filter(None, names))
    return Offer(known, required=choice == "required" and bool(tools) and all(map(_is_callers, tools)))


def callers_tools(spec: ModelSpecOnWire, prompt: Prompt) -> list[dict[str, Any]]:
    """The tools of a model that the caller runs, in the shape of Chat Completions."""
    return [_as_in_chat(tool) for tool in _all_tools(spec, prompt) if _is_callers(tool)]


def judge_calls(choice: Choice, offered: Offer) -> Verdict | None:
    """What is wrong with a choice's tool calls; None when nothing is."""
    if offered.required and not choice.tool_calls:
        return Verdict(AnswerDefect.NO_TOOL_CALL, choice.finish_reason, "a tool call was demanded; the model made none")
    if offered.names is None:
        return None
    for name in (call.function.name for call in choice.tool_calls):
        if name not in offered.names:
            listed = f"offered: {', '.join(sorted(offered.names)) or 'none'}"
            text = f"calls {name!r}; {'none was allowed' if offered.forbidden else listed}"
            return Verdict(AnswerDefect.UNKNOWN_TOOL, choice.finish_reason, text)
    return None


def tool_parameters(provider: str, parameters: Mapping[str, Any], *, responses_api: bool = False) -> dict[str, Any]:
    """`parameters` as this provider takes them: no option of tools without tools, which OpenAI answers with a 400."""
    if not parameters.get("tools") and not _in_body(parameters):
        return {name: value for name, value in parameters.items() if name not in ("tools", *_NEED_TOOLS)}
    if "tool_choice" not in parameters or responses_api or not _drops_choice(provider, parameters):
        return dict(parameters)
    rest = {name: value for name, value in parameters.items() if name != "tool_choice"}
    return {**rest, "extra_body": {"tool_choice": parameters["tool_choice"], **(rest.get("extra_body") or {})}}


def _drops_choice(provider: str, parameters: Mapping[str, Any]) -> bool:
    """Whether litellm leaves a choice out: one tool's for Mistral, any where it does not see the tools."""
    if provider in _DROPS_NAMED_CHOICE and isinstance(parameters["tool_choice"], Mapping):
        return True
    return not parameters.get("tools") and provider not in _OWN_WORDS


def without_empty_calls(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages without empty lists of tool calls: OpenAI refuses them, for Anthropic litellm makes a tool up."""
    return [
        {name: value for name, value in message.items() if name != "tool_calls" or value} for message in messages
    ]  # fmt: skip


def tool_name(value: Any) -> str | None:
    """The name in a tool, or in a choice of one: of its function as in Chat Completions, or its own as in Responses."""
    if not isinstance(value, Mapping):
        return None
    inner = next((value[kind] for kind in _CALLERS_KINDS if isinstance(value.get(kind), Mapping)), value)
    name = inner.get("name")
    return name if isinstance(name, str) else None


def _is_callers(tool: Any) -> bool:
    """Whether the caller runs a tool; the others a provider runs itself, and says nothing of a call."""
    return tool_name(tool) is not None and tool.get("type", "function") in _CALLERS_KINDS


def _all_tools(spec: ModelSpecOnWire, prompt: Prompt) -> list[Any]:
    """What is sent as tools, in whichever shape it was written."""
    own = spec.extra_params.get("tools") if prompt.tools is None else prompt.tools
    tools = _in_body(spec.extra_params) or own
    return tools if isinstance(tools, list) else []


def _as_in_chat(tool: Mapping[str, Any]) -> dict[str, Any]:
    if any(isinstance(tool.get(kind), Mapping) for kind in _CALLERS_KINDS):
        return dict(tool)
    kind = tool.get("type", "function")
    return {"type": kind, kind: {name: value for name, value in tool.items() if name != "type"}}


def _in_body(parameters: Mapping[str, Any]) -> Any:
    """Tools that are sent as they are, beside what litellm knows of."""
    body = parameters.get("extra_body")
    return body.get("tools") if isinstance(body, Mapping) else None
