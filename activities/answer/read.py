"""Turn litellm's response into the contract's `Answer`: plain data that Temporal can store.

litellm's objects hold clients, change between versions and price unknown models at zero. A stored result must stay
readable.
"""

from collections.abc import Collection
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from durable_llm.contract.ledger import Usage, clip
from durable_llm.contract.result import Answer, Choice, FunctionCall, ToolCall

from ..litellm_setup import THOUGHT_SEPARATOR
from ..secrets.scrub import Scrubber
from ..wire.exchange import Exchange
from .cost import cost_of
from .defects import ChoiceEnd, choice_defect, finish_reason
from .surrogates import without_surrogates

_LABEL_BYTES: Final = 1000

_CONTINUES: Final = ("thought_signatures", "reasoning_details")
_SIGNS_CALL: Final = ("thought_signature",)
_RUN_BY_PROVIDER: Final = "srvtoolu_"
"""Prefix of the ids of tools that Claude's server ran. litellm lists them among the caller's calls."""


def read_answer(response: Any, exchange: Exchange, model: str) -> Answer:
    """The content of `response`, with usage and cost. Defects are not looked for here."""
    usage = read_usage(response)
    return Answer(
        choices=[_choice(choice) for choice in response.choices],
        model=_label(response.model),
        system_fingerprint=_label(getattr(response, "system_fingerprint", None)),
        usage=usage,
        cost=cost_of(response, model, usage),
        response_id=_label(response.id),
        request_id=exchange.request_id,
        http_status=exchange.status,
    )


def read_usage(response: Any) -> Usage | None:
    """Tokens as the provider counted them. None: it did not."""
    usage = getattr(response, "usage", None)
    if usage is None or not (usage.prompt_tokens or usage.completion_tokens):
        return None
    details = getattr(usage, "prompt_tokens_details", None)
    read = getattr(usage, "cache_read_input_tokens", None) or getattr(details, "cached_tokens", None)
    created = getattr(usage, "cache_creation_input_tokens", None) or getattr(details, "cache_creation_tokens", None)
    return Usage(
        prompt_tokens=usage.prompt_tokens or 0,
        completion_tokens=usage.completion_tokens or 0,
        cache_read_tokens=read or 0,
        cache_creation_tokens=created or 0,
    )


def storable(answer: Answer) -> tuple[Answer, str]:
    """`answer` without lone surrogates, and its JSON."""
    try:
        return answer, answer.model_dump_json()
    except PydanticSerializationError:
        mended = Answer.model_validate(without_surrogates(answer.model_dump()))
        return mended, mended.model_dump_json()


def without_keys(answer: Answer, scrubber: Scrubber) -> Answer:
    """`answer` in a form that can be stored, without this worker's keys: a provider may echo them anywhere."""
    answer, document = storable(answer)
    cleaned = scrubber.clean_document(document)
    if cleaned != document:
        answer = Answer.model_validate_json(cleaned)
    names = {name: getattr(answer, name) for name in ("model", "response_id", "request_id")}
    return answer.model_copy(update={name: value and scrubber.clean_name(value) for name, value in names.items()})


def with_finish_reasons(answer: Answer, ends: list[ChoiceEnd]) -> Answer:
    """`answer` with the finish reasons from the wire. litellm calls every reason that it does not know "stop"."""
    if len(ends) != len(answer.choices):
        return answer
    choices = [
        choice.model_copy(update={"finish_reason": _label(finish_reason(choice, end))})
        for choice, end in zip(answer.choices, ends, strict=True)
    ]
    return answer.model_copy(update={"choices": choices})


def keep_usable_choices(answer: Answer, ends: list[ChoiceEnd]) -> Answer:
    """`answer` without its choices that have a defect."""
    told = ends if len(ends) == len(answer.choices) else [ChoiceEnd()] * len(answer.choices)
    kept = [choice for choice, end in zip(answer.choices, told, strict=True) if choice_defect(choice, end) is None]
    return answer.model_copy(update={"choices": kept})


def _choice(choice: Any) -> Choice:
    message = choice.message
    return Choice(
        text=message.content if isinstance(message.content, str) else None,
        tool_calls=[_tool_call(call) for call in message.tool_calls or () if not _is_done(call)],
        finish_reason=_label(choice.finish_reason),
        logprobs=plain_logprobs(getattr(choice, "logprobs", None)),
        reasoning_content=getattr(message, "reasoning_content", None) or None,
        thinking_blocks=[dict(block) for block in getattr(message, "thinking_blocks", None) or ()],
        provider_specific_fields=_specific(message, _CONTINUES),
    )


def _label(text: str | None) -> str | None:
    """A name or an id, cut: a provider may send a long one."""
    return clip(text, _LABEL_BYTES) if text else None


def _specific(item: Any, names: Collection[str]) -> dict[str, Any] | None:
    """The provider-specific fields of an item that the next call needs. None: it has none."""
    fields = getattr(item, "provider_specific_fields", None) or {}
    return {name: fields[name] for name in names if fields.get(name)} or None


def plain_logprobs(logprobs: Any) -> dict[str, Any] | None:
    """Log probabilities of litellm as plain data, in OpenAI's shape."""
    plain = logprobs.model_dump() if isinstance(logprobs, BaseModel) else logprobs
    return plain if isinstance(plain, dict) else None


def _is_done(call: Any) -> bool:
    """Whether the provider ran the tool itself, so that the caller has nothing to do."""
    return (call.id or "").startswith(_RUN_BY_PROVIDER)


def _tool_call(call: Any) -> ToolCall:
    function = call.function
    return ToolCall(
        id=(call.id or "").partition(THOUGHT_SEPARATOR)[0],
        type=call.type or "function",
        function=FunctionCall(name=function.name or "", arguments=function.arguments or ""),
        provider_specific_fields=_specific(call, _SIGNS_CALL),
    )
