"""Turn an exception and the record of its exchange into `FailureFacts`.

Status, headers and body come from the record. litellm's exception only gives its class name, and its text if there was
no response. Exceptions must not leave the activity: they hold keys and cannot be unpickled.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from durable_llm.contract.facts import AnswerDefect, FailureFacts, LocalFault, Sent
from durable_llm.contract.ledger import clip

from ..answer.defects import Defect, body_defect
from ..faults import LocalFaultError
from ..litellm_setup import SSRFError, litellm
from ..secrets.scrub import Scrubber
from ..wire.error_body import ProviderError, read_error, read_error_of_success
from ..wire.exchange import INLINE, Exchange, RefusedError
from . import retry_after

_PREFIX = re.compile(r"^(?:litellm\.)?(?:\w+(?:Error|Exception)\s*[:-]\s*)+")
_ADVICE: Final = "To drop these, set "
"""Start of litellm's advice for its proxy."""

_FETCHES: Final = (litellm.ImageFetchError, SSRFError)
_UNSUPPORTED: Final = (litellm.UnsupportedParamsError, NotImplementedError, *_FETCHES)
_REDIRECTED: Final = "the provider redirects to another address; it is not followed, because the key would go along."


def facts_of_exception(error: BaseException, exchange: Exchange, scrubber: Scrubber, now: datetime) -> FailureFacts:
    """The facts of an attempt that ended with `error`.

    Args:
        error: The exception of litellm or of our code.
        exchange: The record of the wire.
        scrubber: Cleans every text.
        now: The time of the failure, for waits that end at a moment.
    """
    if exchange.status is not None and exchange.refused is None:
        return _facts_of_recorded_response(exchange, scrubber, now).model_copy(update={"exception": _class_name(error)})
    fault = _local_fault(error, exchange)
    ours = exchange.refusal or (str(error) if isinstance(error, LocalFaultError) else None)
    text = scrubber.clean_hint(ours) if ours else scrubber.clean(_text_of(exchange.error or error))
    return FailureFacts(
        http_status=exchange.status, text=text, exception=_class_name(error), local_fault=fault,
        request_sent=exchange.sent,
    )  # fmt: skip


def facts_of_timeout(reason: str, exchange: Exchange, scrubber: Scrubber) -> FailureFacts:
    """The facts of an attempt that its own timeout ended, for a reason like "no answer within 5 s"."""
    follows = exchange.response_id is not None
    received = (
        f"; {len(exchange.raw_body)} bytes of a response had arrived" if exchange.raw_body and not follows else ""
    )
    return FailureFacts(
        http_status=exchange.status,
        text=f"{reason}{received}",
        local_fault=LocalFault.TIMEOUT,
        request_id=scrubber.clean_name(exchange.request_id or "") or None,
        request_sent=exchange.sent,
    )


def facts_of_defect(defect: Defect, exchange: Exchange, scrubber: Scrubber, now: datetime) -> FailureFacts:
    """The facts of a 200 with a defect."""
    if defect.kind is AnswerDefect.ERROR_BODY:
        facts = _facts_of_error(read_error_of_success(exchange.json()), exchange, scrubber, now)
    else:
        text = defect.text
        if not text and defect.kind is AnswerDefect.UNREADABLE:
            text = read_error(exchange.headers, exchange.body[:10_000]).message
        facts = _facts_of_error(ProviderError(message=text, details=_block_reason(exchange)), exchange, scrubber, now)
    return facts.model_copy(
        update={
            "answer_defect": defect.kind,
            "finish_reason": scrubber.clean(defect.finish_reason or "", 60) or None,
        }
    )


def _facts_of_recorded_response(exchange: Exchange, scrubber: Scrubber, now: datetime) -> FailureFacts:
    """The facts of a response after which litellm raised."""
    if exchange.error is not None:
        facts = facts_of_response(exchange, scrubber, now)
        text = facts.text if not exchange.succeeded else scrubber.clean(_text_of(exchange.error))
        return facts.model_copy(update={"local_fault": LocalFault.DISCONNECTED, "text": text})
    if exchange.succeeded:
        defect = body_defect(exchange.body, exchange.json()) or Defect(AnswerDefect.UNREADABLE)
        return facts_of_defect(defect, exchange, scrubber, now)
    return facts_of_response(exchange, scrubber, now)


def facts_of_response(exchange: Exchange, scrubber: Scrubber, now: datetime) -> FailureFacts:
    """The facts of a response whose status is not a success."""
    error = read_error(exchange.headers, exchange.body)
    if exchange.status is not None and 300 <= exchange.status < 400:
        error = error._replace(message=f"{_REDIRECTED} {error.message}".strip())
    return _facts_of_error(error, exchange, scrubber, now)


def _facts_of_error(error: ProviderError, exchange: Exchange, scrubber: Scrubber, now: datetime) -> FailureFacts:
    wait = retry_after.parse(exchange.headers, exchange.json(), error.message, now)
    return FailureFacts(
        http_status=error.status if exchange.succeeded and error.status else exchange.status,
        error_code=_clean(scrubber, error.code),
        error_type=_clean(scrubber, error.type),
        error_param=_clean(scrubber, error.param),
        error_details=scrubber.clean_all(error.details),
        text=scrubber.clean(error.message),
        retry_after_s=wait.seconds if wait else None,
        retry_after_source=wait.source if wait else None,
        delay_headers={
            scrubber.clean_name(name): scrubber.clean(value, 100)
            for name, value in retry_after.delay_headers(exchange.headers).items()
        },
        should_retry={"true": True, "false": False}.get(exchange.headers.get("x-should-retry", "").strip().lower()),
        request_id=_clean(scrubber, exchange.request_id),
        request_sent=exchange.sent,
    )


def _clean(scrubber: Scrubber, text: str | None) -> str | None:
    return scrubber.clean(text, 160) or None if text else None


def _block_reason(exchange: Exchange) -> list[str]:
    value = exchange.json()
    feedback = value.get("promptFeedback") if isinstance(value, dict) else None
    reason = feedback.get("blockReason") if isinstance(feedback, dict) else None
    return [f"blockReason={reason}"] if reason else []


def _local_fault(error: BaseException, exchange: Exchange) -> LocalFault:
    """Our own side's fault, for a failure without a response."""
    if exchange.refused is not None:
        return exchange.refused
    if isinstance(error, LocalFaultError):
        return error.fault
    if exchange.error is not None:
        return LocalFault.CONNECT if exchange.sent is Sent.NO else LocalFault.DISCONNECTED
    if exchange.requests:
        return LocalFault.DISCONNECTED
    return _before_sending(error)


def _before_sending(error: BaseException) -> LocalFault:
    """Why litellm sent nothing."""
    chain = list(_chain(error))
    if any(isinstance(link, ImportError) for link in chain) or "pip install" in str(error):
        return LocalFault.MISSING_PACKAGE
    if any(isinstance(link, _UNSUPPORTED) for link in chain):
        return LocalFault.UNSUPPORTED
    if any(isinstance(link, litellm.AuthenticationError) for link in chain) or _misses_key(error):
        return LocalFault.MISSING_KEY
    return LocalFault.REQUEST_NOT_BUILT


def _misses_key(error: BaseException) -> bool:
    """Whether litellm says that a credential is missing. Nothing was sent, so the text is not a provider's."""
    low = str(error).lower()
    return any(word in low for word in ("api_key", "api key", "credential", "access token", "_api_key"))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and its causes, suppressed ones too."""
    seen: set[int] = set()
    link: Any = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _class_name(error: BaseException) -> str | None:
    ours = isinstance(error, LocalFaultError | RefusedError)
    return None if ours else clip(type(error).__name__, 100)


def _text_of(error: BaseException) -> str:
    """The exception's text without litellm's prefixes, advice and tracebacks."""
    if any(isinstance(link, _FETCHES) for link in _chain(error)):
        return f"litellm would fetch an address of the prompt; {INLINE}"
    text = str(error).partition("Traceback (most recent call last)")[0].partition(_ADVICE)[0].strip()
    return _PREFIX.sub("", text) or type(error).__name__
