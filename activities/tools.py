"""Tools on their way to a provider, and whether an answer's tool calls are calls of what was offered.

litellm passes on what some providers refuse (an empty list of tool calls in a message) and drops what others would take
(Mistral's choice of one tool). A model may call what nobody offered; a server may ignore that a call was demanded.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from activities.verdict_on_answer import Verdict
from durable_llm.config import ModelSpecOnWire
from durable_llm.facts import AnswerDefect
from durable_llm.request import Prompt
from durable_llm.result import Choice

_NEED_TOOLS: Final = ("tool_choice", "parallel_tool_calls")
_DROPS_NAMED_CHOICE: Final = frozenset({"mistral"})
_PROVIDERS_OWN: Final = ("web_search_options",)
"""Parameters with which a provider offers tools of its own, whose calls litellm lists among the others."""


class Offer(NamedTuple):
    """The tools that an answer may call."""

    names: frozenset[str] | None
    """None: not all of them are known here."""
    required: bool = False
    """Whether there must be a call."""


def offer(spec: ModelSpecOnWire, prompt: Prompt) -> Offer:
    """What a model is offered: the prompt's tools, else its spec's own."""
    parameters = spec.extra_params
    tools = prompt.tools if prompt.tools is not None else parameters.get("tools")
    choice = prompt.tool_choice if prompt.tool_choice is not None else parameters.get("tool_choice")
    named = _named(choice)
    if any(name in parameters for name in _PROVIDERS_OWN) or "tools" in (parameters.get("extra_body") or {}):
        return Offer(None)
    names = frozenset(filter(None, map(_name, tools or ())))
    return Offer(frozenset({named}) if named else names, bool(names) and (choice == "required" or named is not None))


def judge_calls(choice: Choice, offered: Offer) -> Verdict | None:
    """What is wrong with a choice's tool calls; None when nothing is."""
    if offered.required and not choice.tool_calls:
        return Verdict(AnswerDefect.NO_TOOL_CALL, choice.finish_reason, "a tool call was demanded; the model made none")
    if offered.names is None:
        return None
    for name in (call.function.name for call in choice.tool_calls):
        if name not in offered.names:
            listed = ", ".join(sorted(offered.names)) or "none"
            return Verdict(AnswerDefect.UNKNOWN_TOOL, choice.finish_reason, f"calls {name!r}; offered: {listed}")
    return None


def tool_parameters(provider: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """`parameters` as this provider takes them: no option of tools without tools, which OpenAI answers with a 400."""
    if not parameters.get("tools"):
        return {name: value for name, value in parameters.items() if name not in ("tools", *_NEED_TOOLS)}
    choice = parameters.get("tool_choice")
    if provider not in _DROPS_NAMED_CHOICE or not isinstance(choice, Mapping):
        return dict(parameters)
    rest = {name: value for name, value in parameters.items() if name != "tool_choice"}
    return {**rest, "extra_body": {"tool_choice": dict(choice), **(rest.get("extra_body") or {})}}


def without_empty_calls(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages without empty lists of tool calls: OpenAI refuses them, for Anthropic litellm makes a tool up."""
    return [
        {name: value for name, value in message.items() if name != "tool_calls" or value} for message in messages
    ]  # fmt: skip


def _named(choice: Any) -> str | None:
    """The one tool that a choice names."""
    function = choice.get("function") if isinstance(choice, Mapping) else None
    return _text(function.get("name")) if isinstance(function, Mapping) else None


def _name(tool: Any) -> str | None:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    return _text(function.get("name")) if isinstance(function, Mapping) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
