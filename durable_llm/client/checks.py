"""Checks of a call's options before anything is sent; each error says what to write instead."""

import re
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from durable_llm.contract.key_reference import find_literal_key
from durable_llm.contract.request import (
    MAX_DEADLINE_S,
    MAX_PROMPT_BYTES,
    MAX_REQUEST_BYTES,
    MAX_SPEC_BYTES,
    MAX_STORED_PROMPT_BYTES,
    CallRequest,
    Prompt,
)
from durable_llm.contract.tenants import LEAST_URGENT, LONGEST_TENANT_BYTES, Share, weight_of
from durable_llm.contract.validation import MAX_VALIDATORS, MAX_VALIDATORS_BYTES, Validator, ValidatorLike, to_validator
from durable_llm.contract.wire import describe_validation_error
from durable_llm.errors import InvalidRequestError

Deadline = timedelta | datetime
"""Time from a call's first acceptance, or a moment with a time zone."""

_LONGEST_DEADLINE: Final = timedelta(seconds=MAX_DEADLINE_S)
_MAX_ID_BYTES: Final = 1000
_MAX_LABEL_BYTES: Final = 255
_MAX_METADATA_BYTES: Final = 2000
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def check_choices(**choices: tuple[str, tuple[str, ...]]) -> None:
    """Refuse an option whose value is not one of its words."""
    for name, (value, allowed) in choices.items():
        if value not in allowed:
            raise InvalidRequestError(f"{name}: expected one of {', '.join(map(repr, allowed))}, got {value!r}")


def check_count(name: str, value: int | None) -> None:
    """Refuse a count that is not a whole number above zero."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise InvalidRequestError(f"{name}: expected a whole number above zero, got {value!r}")


def check_validators(validators: Sequence[ValidatorLike]) -> list[Validator]:
    """The validators, if they are few and small. Whether a worker has them, only the worker knows."""
    if isinstance(validators, str | Mapping) or not isinstance(validators, Sequence):
        raise InvalidRequestError(f"validators: expected a list of names, got {type(validators).__name__}")
    checked = [_validator(index, value) for index, value in enumerate(validators)]
    if len(checked) > MAX_VALIDATORS:
        raise InvalidRequestError(f"validators: at most {MAX_VALIDATORS}, got {len(checked)}")
    if (size := sum(_json_bytes("validators", each) for each in checked)) > MAX_VALIDATORS_BYTES:
        raise InvalidRequestError(f"validators: take {size:,} bytes as JSON and the limit is {MAX_VALIDATORS_BYTES:,}")
    if any(find_literal_key(each.model_dump_json()) for each in checked):
        raise InvalidRequestError("validators: a parameter holds what looks like a key; it would be stored")
    return checked


def _validator(index: int, value: object) -> Validator:
    try:
        return to_validator(value)
    except ValidationError as error:
        raise InvalidRequestError(f"validators[{index}]: {describe_validation_error(error)}") from None
    except ValueError as error:
        raise InvalidRequestError(f"validators[{index}]: {error}") from None


def split_deadline(deadline: Deadline) -> tuple[float | None, datetime | None]:
    """Seconds from acceptance, or a moment, which may have passed: exactly one of the two."""
    if isinstance(deadline, timedelta):
        if deadline <= timedelta(0):
            raise InvalidRequestError("deadline: expected a duration above zero")
        if deadline > _LONGEST_DEADLINE:
            raise InvalidRequestError(f"deadline: at most {_LONGEST_DEADLINE.days} days")
        return deadline.total_seconds(), None
    if not isinstance(deadline, datetime):
        raise InvalidRequestError(f"deadline: expected a timedelta or a datetime, got {type(deadline).__name__}")
    if deadline.tzinfo is None:
        raise InvalidRequestError("deadline: the datetime has no time zone; write datetime(..., tzinfo=UTC)")
    if deadline - datetime.now(UTC) > _LONGEST_DEADLINE:
        raise InvalidRequestError(f"deadline: at most {_LONGEST_DEADLINE.days} days from now")
    return None, deadline.astimezone(UTC)


def has_passed(deadline_at: datetime | None) -> bool:
    """Whether there is an absolute deadline and it has passed."""
    return deadline_at is not None and deadline_at <= datetime.now(UTC)


def check_not_passed(deadline_at: datetime | None) -> None:
    """Refuse to start a call whose deadline has passed."""
    if has_passed(deadline_at):
        raise InvalidRequestError("deadline: lies in the past")


def fresh_call_id() -> str:
    """An id that no other call has."""
    return f"llm-{uuid.uuid4()}"


def check_call_id(call_id: str) -> str:
    """The id, if Temporal accepts it and it may be shown."""
    if not isinstance(call_id, str) or not call_id.strip():
        raise InvalidRequestError("call_id: expected a text that is not empty")
    _check_label("call_id", call_id, _MAX_ID_BYTES)
    return call_id


def check_session(session: str | None) -> None:
    """Refuse a session that Temporal cannot index or that should not be shown."""
    if session is None:
        return
    if not isinstance(session, str) or not session:
        raise InvalidRequestError("session: expected a text that is not empty")
    _check_label("session", session, _MAX_LABEL_BYTES)


def check_share(tenant: str | None, priority: int | None) -> Share:
    """The call's place among others, with the weight that the operator's file gives its tenant."""
    if tenant is not None:
        if not isinstance(tenant, str) or not tenant:
            raise InvalidRequestError("tenant: expected a text that is not empty")
        _check_label("tenant", tenant, LONGEST_TENANT_BYTES)
    if priority is not None and (not isinstance(priority, int) or not 1 <= priority <= LEAST_URGENT):
        raise InvalidRequestError(f"priority: expected 1 (first) to {LEAST_URGENT} (last), got {priority!r}")
    try:
        weight = weight_of(tenant)
    except ValueError as error:
        raise InvalidRequestError(str(error)) from None
    return Share(tenant=tenant, priority=priority, weight=weight)


def is_label(text: str) -> bool:
    """Whether a text is short enough for a session."""
    return len(text.encode(errors="surrogatepass")) <= _MAX_LABEL_BYTES


def check_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """The labels, if they are few and short and hold no secrets."""
    if metadata is not None and not isinstance(metadata, Mapping):
        raise InvalidRequestError(f"metadata: expected a dict, got {type(metadata).__name__}")
    checked = dict(metadata or {})
    if any(not isinstance(text, str) for pair in checked.items() for text in pair):
        raise InvalidRequestError("metadata: expected a dict of strings")
    _check_label("metadata", " ".join(text for pair in checked.items() for text in pair), _MAX_METADATA_BYTES)
    return checked


def check_sizes(request: CallRequest, prompt: Prompt, *, has_store: bool) -> int:
    """Bytes of the prompt as JSON, if Temporal or the store can keep it.

    Raises:
        InvalidRequestError: a part is too large or cannot be written as JSON; names the part.
    """
    for spec in request.models:
        if (size := _json_bytes("config", spec)) > MAX_SPEC_BYTES:
            raise InvalidRequestError(
                f"config: {spec.name} takes {size:,} bytes as JSON and the limit is {MAX_SPEC_BYTES:,}; a large schema "
                "goes into response_format or tools"
            )
    if (size := _json_bytes("config", request)) > MAX_REQUEST_BYTES:
        raise InvalidRequestError(f"config: takes {size:,} bytes as JSON and the limit is {MAX_REQUEST_BYTES:,}")
    part = "messages" if prompt.texts is None else "texts"
    size = _json_bytes(part, prompt)
    limit = MAX_STORED_PROMPT_BYTES if has_store else MAX_PROMPT_BYTES
    if size > limit:
        advice = "shorten it, or pass large images by address instead of inline"
        if size <= MAX_STORED_PROMPT_BYTES:
            advice = f"set DURABLE_LLM_STORE here and on the workers ({MAX_STORED_PROMPT_BYTES:,} then), {advice}"
        raise InvalidRequestError(
            f"{part}: the prompt takes {size:,} bytes as JSON and the limit is {limit:,}; {advice}"
        )
    return size


def _json_bytes(part: str, value: BaseModel) -> int:
    try:
        return len(value.model_dump_json().encode())
    except (PydanticSerializationError, ValueError) as error:
        raise InvalidRequestError(f"{part}: not representable as JSON ({type(error).__name__})") from None


def _check_label(name: str, text: str, limit: int) -> None:
    """Refuse a label that is too long, unprintable or looks like a secret: labels are shown everywhere."""
    size = len(text.encode(errors="surrogatepass"))
    if size > limit:
        raise InvalidRequestError(f"{name}: takes {size:,} bytes and the limit is {limit:,}")
    if _UNPRINTABLE.search(text):
        raise InvalidRequestError(f"{name}: holds a control character or half of a surrogate pair")
    if find_literal_key(text):
        raise InvalidRequestError(f"{name}: holds what looks like a key; this is shown everywhere")
