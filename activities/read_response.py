"""Reading a response: an answer, or the facts of why it is none.

litellm's return value does not decide: litellm makes up an empty answer from a body without choices, and a cut answer
from one kind of 400. What was on the wire decides.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from durable_llm.contract.facts import AnswerDefect, FailureFacts, LocalFault
from durable_llm.contract.result import Answer

from .answer.defects import Defect, body_defect, choice_ends, choices_defect
from .answer.read import keep_usable_choices, read_answer, without_keys
from .answer.responses import forgets, unanswerable, uses_hosted_tools
from .answer.truncate import truncate
from .failure.facts import facts_of_defect, facts_of_response
from .faults import LocalFaultError
from .request.provider_request import ProviderRequest
from .secrets.scrub import Scrubber
from .wire.exchange import Exchange

_COUNTS: Final = ("usage", "usageMetadata", "prompt_eval_count")


def read_response(
    response: Any, request: ProviderRequest, exchange: Exchange, scrubber: Scrubber, now: datetime
) -> Answer | FailureFacts:
    """The answer that a response is, or the facts of why it is none.

    Args:
        response: What litellm made of it.
        request: What was asked.
        exchange: What was on the wire.
        scrubber: Cleans every text.
        now: When the response was there.

    Raises:
        LocalFaultError: no request was seen, so nothing is known of where the response is from.
    """
    if exchange.status is None:
        raise LocalFaultError(LocalFault.UNSUPPORTED, "litellm asks this provider on a way that cannot be observed")
    if not exchange.succeeded:
        return facts_of_response(exchange, scrubber, now)
    value = exchange.json()
    answer = without_keys(_as_told_on_the_wire(read_answer(response, exchange, request.spec.name), exchange), scrubber)
    defect = _defect(answer, request, exchange, value)
    if defect is None:
        usable = keep_usable_choices(answer, choice_ends(value))
        return usable.model_copy(update={"provider": request.provider})
    facts = facts_of_rejected_answer(defect, answer, exchange, scrubber, now)
    if defect.kind is AnswerDefect.EMPTY and unanswerable(value):
        return facts.model_copy(update={"local_fault": LocalFault.UNSUPPORTED})
    return facts


def facts_of_rejected_answer(
    defect: Defect, answer: Answer, exchange: Exchange, scrubber: Scrubber, now: datetime
) -> FailureFacts:
    """The facts of an answer that will not do, with what it cost."""
    facts = facts_of_defect(defect, exchange, scrubber, now)
    return facts.model_copy(update={"model": answer.model, "usage": answer.usage, "cost": answer.cost})


def facts_of_unchecked_answer(text: str, answer: Answer, exchange: Exchange, scrubber: Scrubber) -> FailureFacts:
    """The facts of an answer that a broken validator could not check. The answer is kept: it was paid for."""
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


def _as_told_on_the_wire(answer: Answer, exchange: Exchange) -> Answer:
    """With the model that the wire names, and without litellm's own guesses of usage and cost."""
    value = exchange.json()
    known = isinstance(value, Mapping)
    if exchange.streamed and not (known and any(value.get(name) for name in _COUNTS)):
        answer = answer.model_copy(update={"usage": None, "cost": None})
    if known and value.get("object") == "response" and isinstance(value.get("model"), str) and value["model"]:
        answer = answer.model_copy(update={"model": value["model"]})  # litellm repeats the one that was asked
    if uses_hosted_tools(value):
        answer = answer.model_copy(update={"cost": None})  # they are billed beside the tokens
    return answer


def _defect(answer: Answer, request: ProviderRequest, exchange: Exchange, value: Any) -> Defect | None:
    """What is wrong with the whole answer; an error that the body names comes before all else."""
    defect = _defect_of_choices(answer, exchange, value)
    if defect is not None and defect.kind is AnswerDefect.ERROR_BODY:
        return defect
    return _forgotten(request, value) or _unanswerable(value) or defect or _too_few_choices(request, answer)


def _defect_of_choices(answer: Answer, exchange: Exchange, value: Any) -> Defect | None:
    if (value is not None or exchange.streamed) and (defect := body_defect(exchange.body, value)):
        return defect
    defect = choices_defect(answer.choices, choice_ends(value))
    if defect and defect.kind is AnswerDefect.EMPTY and value is None:
        return body_defect(exchange.body, value)  # nothing was said because nothing could be read
    return defect


def _forgotten(request: ProviderRequest, value: Any) -> Defect | None:
    """An answer without the conversation: the server took the stored response's id and ignores it."""
    previous = request.parameters.get("previous_response_id")
    if previous is None or not forgets(value):
        return None
    return Defect(AnswerDefect.FORGOTTEN, None, f"the server ignores previous_response_id {previous!r}")


def _unanswerable(value: Any) -> Defect | None:
    """A response that waits for what no caller can say here, whatever else it says."""
    kind = unanswerable(value)
    text = f"the response asks for {kind}, which a call cannot answer; offer tools of type 'function' instead"
    return Defect(AnswerDefect.EMPTY, None, text) if kind else None


def _too_few_choices(request: ProviderRequest, answer: Answer) -> Defect | None:
    """One choice where several were asked for: a provider that ignores `n`. Several, but fewer, are an answer."""
    if request.choices == 1 or len(answer.choices) != 1:
        return None
    text = f"the provider gave one choice where n asked for {request.choices}; leave n out of this spec"
    return Defect(AnswerDefect.TOO_FEW, answer.choices[0].finish_reason, text)
