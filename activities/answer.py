"""From litellm's response to the contract's `Answer`: plain data that Temporal can store.

litellm's own objects hold clients, change from version to version and price what they do not know at zero; a stored
result must be readable for ever.
"""

import json
from typing import Any, Final

from pydantic import BaseModel

from activities.exchange import Exchange
from activities.failure import request_id_of
from activities.litellm_setup import litellm, price
from activities.scrub import Scrubber
from activities.verdict_on_answer import Native, judge_choice
from durable_llm.attempt import Usage
from durable_llm.request import MAX_ANSWER_BYTES
from durable_llm.result import Answer, Choice, FunctionCall, ToolCall

_SAFETY: Final = 0.9
"""Part of the allowed size that cut texts fill."""


async def whole(response: Any) -> Any:
    """What litellm gave; a stream is read to its end and put together."""
    if not hasattr(response, "__aiter__"):
        return response
    try:
        chunks = [chunk async for chunk in response]
    finally:
        await response.aclose()
    return litellm.stream_chunk_builder(chunks) or litellm.ModelResponse(choices=[])


def read_answer(response: Any, exchange: Exchange, model: str) -> Answer:
    """What `response` says, with usage and cost; nothing is judged here."""
    message = response.choices[0].message if response.choices else None
    return Answer(
        choices=[_choice(choice) for choice in response.choices],
        model=response.model or None,
        reasoning_content=getattr(message, "reasoning_content", None) or None,
        usage=read_usage(response),
        cost=price(response, model),
        response_id=response.id or None,
        request_id=request_id_of(exchange.headers),
        http_status=exchange.status,
    )


def read_usage(response: Any) -> Usage | None:
    """Tokens as the provider counted them; None when it did not."""
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


def without_keys(answer: Answer, scrubber: Scrubber) -> Answer:
    """`answer` without this worker's keys: a provider that echoes what it heard may put them anywhere."""
    document = answer.model_dump_json()
    cleaned = scrubber.clean_document(document)
    if cleaned != document:
        answer = Answer.model_validate_json(cleaned)
    names = {name: getattr(answer, name) for name in ("model", "response_id", "request_id")}
    return answer.model_copy(update={name: value and scrubber.clean_name(value) for name, value in names.items()})


def finished(answer: Answer, native: list[Native]) -> Answer:
    """`answer` with its sound choices only, at a size that Temporal stores."""
    ends = native if len(native) == len(answer.choices) else [Native()] * len(answer.choices)
    sound = [choice for choice, end in zip(answer.choices, ends, strict=True) if judge_choice(choice, end) is None]
    return fitted(answer.model_copy(update={"choices": sound}))


def fitted(answer: Answer, limit: int = MAX_ANSWER_BYTES) -> Answer:
    """`answer` cut to `limit` bytes of JSON: first the log probabilities go, then the reasoning, then ends of texts."""
    steps = (_without_logprobs, _without_reasoning, _with_short_texts)
    for step in steps:
        if _size(answer) <= limit:
            return answer
        answer = step(answer, limit).model_copy(update={"truncated": True})
    return answer


def _size(answer: Answer) -> int:
    return len(answer.model_dump_json().encode())


def _without_logprobs(answer: Answer, _limit: int) -> Answer:
    return answer.model_copy(update={"choices": [c.model_copy(update={"logprobs": None}) for c in answer.choices]})


def _without_reasoning(answer: Answer, _limit: int) -> Answer:
    return answer.model_copy(update={"reasoning_content": None})


def _with_short_texts(answer: Answer, limit: int) -> Answer:
    texts = sum(_weight(choice.text or "") for choice in answer.choices)
    kept = max(0.0, (limit - (_size(answer) - texts)) * _SAFETY) / max(1, texts)
    choices = [
        choice.model_copy(update={"text": choice.text and _start(choice.text, kept)}) for choice in answer.choices
    ]
    return answer.model_copy(update={"choices": choices})


def _start(text: str, part: float) -> str:
    """The start of `text` that takes about `part` of its weight."""
    room, end = _weight(text) * part, len(text)
    while (weight := _weight(text[:end])) > room and end:
        end = min(end - 1, int(end * room / weight))
    return text[:end] + "…"


def _weight(text: str) -> int:
    """Bytes that `text` takes inside JSON."""
    return len(json.dumps(text, ensure_ascii=False).encode(errors="replace"))


def _choice(choice: Any) -> Choice:
    message = choice.message
    return Choice(
        text=message.content if isinstance(message.content, str) else None,
        tool_calls=[_tool_call(call) for call in message.tool_calls or ()],
        finish_reason=choice.finish_reason or None,
        logprobs=_plain(getattr(choice, "logprobs", None)),
    )


def _plain(logprobs: Any) -> dict[str, Any] | None:
    plain = logprobs.model_dump() if isinstance(logprobs, BaseModel) else logprobs
    return plain if isinstance(plain, dict) else None


def _tool_call(call: Any) -> ToolCall:
    function = call.function
    return ToolCall(
        id=call.id or "",
        type=call.type or "function",
        function=FunctionCall(name=function.name or "", arguments=function.arguments or ""),
    )
