"""Read a response into an answer, or into facts that say why it is not one.

The bytes on the wire decide, not litellm's return value: litellm makes an empty answer of a body without choices, and a
cut answer of one kind of 400.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from durable_llm.contract.facts import AnswerDefect, FailureFacts, LocalFault
from durable_llm.contract.result import Answer

from .answer.defects import ChoiceEnd, Defect, body_defect, choice_ends, choices_defect, cut_by_window
from .answer.read import keep_usable_choices, read_answer, with_finish_reasons, without_keys
from .answer.responses import forgets, unanswerable, uses_hosted_tools
from .answer.truncate import truncate
from .failure.facts import facts_of_defect, facts_of_response
from .faults import LocalFaultError
from .request.provider_request import ProviderRequest
from .secrets.scrub import Scrubber
from .wire.exchange import Exchange
from .wire.mend import has_sound_usage

_MOST_USD: Final = 1e6
"""A higher cost is a mistake."""


def read_response(
    response: Any, request: ProviderRequest, exchange: Exchange, scrubber: Scrubber, now: datetime, *, last_model: bool
) -> Answer | FailureFacts:
    """The answer in a response, or the facts that say why it is not one.

    Args:
        response: litellm's return value.
        request: The request.
        exchange: The record of the wire.
        scrubber: Cleans every text.
        now: When the response arrived.
        last_model: Whether no other model follows. Then a text that the context window cut is an answer: "length".

    Raises:
        LocalFaultError: no request was recorded, so the origin of the response is unknown.
    """
    if (failed := facts_of_failure(exchange, scrubber, now)) is not None:
        return failed
    value = exchange.json()
    ends = cut_by_window(choice_ends(value)) if last_model else choice_ends(value)
    answer = with_finish_reasons(read_answer(response, exchange, request.spec.name), ends)
    answer = without_keys(_corrected_by_wire(answer, exchange), scrubber)
    defect = _defect(answer, request, exchange, value, ends)
    if defect is None:
        usable = keep_usable_choices(answer, ends)
        return usable.model_copy(update={"provider": request.provider})
    facts = facts_of_rejected_answer(defect, answer, exchange, scrubber, now)
    if defect.kind is AnswerDefect.EMPTY and unanswerable(value):
        return facts.model_copy(update={"local_fault": LocalFault.UNSUPPORTED})
    return facts


def facts_of_failure(exchange: Exchange, scrubber: Scrubber, now: datetime) -> FailureFacts | None:
    """The facts of a response whose status is not a success. None: it is one.

    Raises:
        LocalFaultError: no request was recorded, so the origin of the response is unknown.
    """
    if exchange.status is None:
        raise LocalFaultError(
            LocalFault.UNSUPPORTED, "litellm sends requests to this provider in a way that cannot be observed"
        )
    return None if exchange.succeeded else facts_of_response(exchange, scrubber, now)


def facts_of_rejected_answer(
    defect: Defect, answer: Answer, exchange: Exchange, scrubber: Scrubber, now: datetime
) -> FailureFacts:
    """The facts of an answer with a defect, with its cost."""
    facts = facts_of_defect(defect, exchange, scrubber, now)
    return facts.model_copy(update={"model": answer.model, "usage": answer.usage, "cost": answer.cost})


def facts_of_unchecked_answer(text: str, answer: Answer, exchange: Exchange, scrubber: Scrubber) -> FailureFacts:
    """The facts of an answer that a broken validator could not check. They keep the answer, which was paid for."""
    return FailureFacts(
        http_status=exchange.status,
        text=scrubber.clean(text),
        local_fault=LocalFault.BROKEN_VALIDATOR,
        request_id=answer.request_id,
        request_sent=exchange.sent,
        model=answer.model,
        usage=answer.usage,
        cost=answer.cost,
        answer=truncate(answer),
    )


def _corrected_by_wire(answer: Answer, exchange: Exchange) -> Answer:
    """The answer with the model from the wire, and without usage and cost that litellm guessed."""
    value = exchange.json()
    known = isinstance(value, Mapping)
    counted = known and (has_sound_usage(value) or "prompt_eval_count" in value)
    if not counted and (exchange.streamed or (known and ("usage" in value or "usageMetadata" in value))):
        answer = answer.model_copy(update={"usage": None, "cost": None})
    if answer.cost is not None and not 0 <= answer.cost <= _MOST_USD:
        answer = answer.model_copy(update={"cost": None})
    if known and value.get("object") == "response" and isinstance(value.get("model"), str) and value["model"]:
        answer = answer.model_copy(update={"model": value["model"]})  # litellm repeats the requested one
    if uses_hosted_tools(value):
        answer = answer.model_copy(update={"cost": None})  # hosted tools are billed in addition to tokens
    return answer


def _defect(
    answer: Answer, request: ProviderRequest, exchange: Exchange, value: Any, ends: list[ChoiceEnd]
) -> Defect | None:
    """The defect of the answer as a whole. An error in the body comes first."""
    defect = _defect_of_choices(answer, exchange, value, ends)
    if defect is not None and defect.kind is AnswerDefect.ERROR_BODY:
        return defect
    return _forgotten(request, value) or _unanswerable(value) or defect or _too_few_choices(request, answer)


def _defect_of_choices(answer: Answer, exchange: Exchange, value: Any, ends: list[ChoiceEnd]) -> Defect | None:
    if (value is not None or exchange.streamed) and (defect := body_defect(exchange.body, value, ends)):
        return defect
    defect = choices_defect(answer.choices, ends)
    if defect and defect.kind is AnswerDefect.EMPTY and value is None:
        return body_defect(exchange.body, value, ends)  # the choices are empty because the body is unreadable
    return defect


def _forgotten(request: ProviderRequest, value: Any) -> Defect | None:
    """An answer without the conversation: the server ignored the id of the stored response."""
    previous = request.parameters.get("previous_response_id")
    if previous is None or not forgets(value):
        return None
    return Defect(AnswerDefect.FORGOTTEN, None, f"the server ignores previous_response_id {previous!r}")


def _unanswerable(value: Any) -> Defect | None:
    """A response that waits for something that no caller can give here."""
    kind = unanswerable(value)
    text = f"the response asks for {kind}, which a call cannot answer; offer tools of type 'function' instead"
    return Defect(AnswerDefect.EMPTY, None, text) if kind else None


def _too_few_choices(request: ProviderRequest, answer: Answer) -> Defect | None:
    """One choice instead of several: the provider ignores `n`. Two or more choices are an answer."""
    if request.choices == 1 or len(answer.choices) != 1:
        return None
    text = f"the provider gave one choice where n asked for {request.choices}; leave n out of this spec"
    return Defect(AnswerDefect.TOO_FEW, answer.choices[0].finish_reason, text)
