"""Answer or failure: litellm's response held against what was on the wire.

litellm returning is not enough: it makes up an empty answer from a body without choices, and a cut-off answer out of
one kind of 400.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from durable_llm.contract.facts import AnswerDefect, FailureFacts, LocalFault
from durable_llm.contract.result import Answer

from .answer.defects import Verdict, judge_body, judge_choices, natives
from .answer.read import read_answer, sound, without_keys
from .answer.responses import forgets, unanswerable, uses_hosted_tools
from .answer.truncate import fitted
from .failure.facts import LocalFaultError, facts_of_answer, facts_of_response
from .secrets.scrub import Scrubber
from .wire.exchange import Exchange

_COUNTS: Final = ("usage", "usageMetadata", "prompt_eval_count")


def judge(
    response: Any,
    exchange: Exchange,
    model: str,
    scrubber: Scrubber,
    now: datetime,
    *,
    asked: int = 1,
    previous: str | None = None,
) -> Answer | FailureFacts:
    """The answer that `response` is, or the facts of why it is none.

    Args:
        response: What litellm made of it.
        exchange: What was on the wire.
        model: The spec's name of the model.
        scrubber: Cleans every text.
        now: When the answer was seen.
        asked: How many choices were asked for.
        previous: Id of the stored response that was to be gone on from.

    Raises:
        LocalFaultError: no request was seen, so nothing is known of where the answer is from.
    """
    if exchange.status is None:
        raise LocalFaultError(LocalFault.UNSUPPORTED, "litellm asks this provider on a way that cannot be observed")
    if not exchange.succeeded:
        return facts_of_response(exchange, scrubber, now)
    value = exchange.json()
    answer = read_answer(response, exchange, model)
    if exchange.streamed and not _counted(value):
        answer = answer.model_copy(update={"usage": None, "cost": None})  # litellm's own guesses
    if served := _model_of_response(value):
        answer = answer.model_copy(update={"model": served})
    if uses_hosted_tools(value):
        answer = answer.model_copy(update={"cost": None})  # they are billed beside the tokens
    answer = without_keys(answer, scrubber)
    verdict = _verdict(answer, exchange, value)
    if verdict is None or verdict.defect is not AnswerDefect.ERROR_BODY:
        verdict = _forgotten(previous, value) or _waiting(value) or verdict or _ignored(asked, answer)
    if verdict is None:
        return sound(answer, natives(value))
    facts = rejected(verdict, answer, exchange, scrubber, now)
    waits = verdict.defect is AnswerDefect.EMPTY and unanswerable(value)
    return facts.model_copy(update={"local_fault": LocalFault.UNSUPPORTED}) if waits else facts


def rejected(verdict: Verdict, answer: Answer, exchange: Exchange, scrubber: Scrubber, now: datetime) -> FailureFacts:
    """The facts of an answer that will not do, with what it cost."""
    facts = facts_of_answer(verdict, exchange, scrubber, now)
    return facts.model_copy(update={"model": answer.model, "usage": answer.usage, "cost": answer.cost})


def unjudged(text: str, answer: Answer, exchange: Exchange, scrubber: Scrubber) -> FailureFacts:
    """The facts of an answer that a broken validator left unjudged: it is kept, since it was paid for."""
    return FailureFacts(
        http_status=exchange.status,
        text=scrubber.clean(text),
        local_fault=LocalFault.BROKEN_VALIDATOR,
        request_id=answer.request_id,
        request_sent=exchange.sent,
        model=answer.model,
        usage=answer.usage,
        cost=answer.cost,
        answer=fitted(answer),
    )


def _verdict(answer: Answer, exchange: Exchange, value: Any) -> Verdict | None:
    if (value is not None or exchange.streamed) and (verdict := judge_body(exchange.body, value)):
        return verdict
    verdict = judge_choices(answer.choices, natives(value))
    if verdict and verdict.defect is AnswerDefect.EMPTY and value is None:
        return judge_body(exchange.body, value)  # nothing was said because nothing could be read
    return verdict


def _forgotten(previous: str | None, value: Any) -> Verdict | None:
    """An answer without the conversation: the server took the stored response's id and ignores it."""
    if previous is None or not forgets(value):
        return None
    return Verdict(AnswerDefect.FORGOTTEN, None, f"the server ignores previous_response_id {previous!r}")


def _waiting(value: Any) -> Verdict | None:
    """A response that waits for what no caller can say here, whatever it says beside it."""
    kind = unanswerable(value)
    text = f"the response asks for {kind}, which a call cannot answer; offer tools of type 'function' instead"
    return Verdict(AnswerDefect.EMPTY, None, text) if kind else None


def _ignored(asked: int, answer: Answer) -> Verdict | None:
    """One choice for several is a provider that does not heed `n`; fewer, but several, are what there was to say."""
    if asked == 1 or len(answer.choices) != 1:
        return None
    text = f"the provider gave one choice where n asked for {asked}; leave n out of this spec"
    return Verdict(AnswerDefect.TOO_FEW, answer.choices[0].finish_reason, text)


def _counted(value: Any) -> bool:
    """Whether a folded stream says how many tokens it took."""
    return isinstance(value, Mapping) and any(value.get(name) for name in _COUNTS)


def _model_of_response(value: Any) -> str | None:
    """The model that served a Response; litellm repeats the one that was asked."""
    model = value.get("model") if isinstance(value, Mapping) and value.get("object") == "response" else None
    return model if isinstance(model, str) else None
