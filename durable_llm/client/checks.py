"""What is refused before anything is sent: each check says what is wrong and what to write instead."""

import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from durable_llm.contract.categories import Category
from durable_llm.contract.key_reference import find_literal_key
from durable_llm.contract.policy import Policy, RuleAction
from durable_llm.contract.request import (
    MAX_DEADLINE_S,
    MAX_PROMPT_BYTES,
    MAX_REQUEST_BYTES,
    MAX_SPEC_BYTES,
    MAX_STORED_PROMPT_BYTES,
    CallRequest,
    Prompt,
)
from durable_llm.contract.validation import MAX_VALIDATORS, MAX_VALIDATORS_BYTES, Validator, ValidatorLike, to_validator
from durable_llm.errors import InvalidRequestError, describe_validation_error

Deadline = timedelta | datetime
"""Time from a call's first acceptance, or a moment with a time zone."""

RULES_VARIABLE: Final = "DURABLE_LLM_RULES"
"""Overrides of a whole deployment, read where calls are submitted: they travel in the call like its own."""

_LONGEST_DEADLINE: Final = timedelta(seconds=MAX_DEADLINE_S)
_MAX_ID_BYTES: Final = 1000
_MAX_LABEL_BYTES: Final = 255
_MAX_METADATA_BYTES: Final = 2000
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def check_choices(**choices: tuple[str, tuple[str, ...]]) -> None:
    """Refuse an option that is none of its words."""
    for name, (value, allowed) in choices.items():
        if value not in allowed:
            raise InvalidRequestError(f"{name}: expected one of {', '.join(map(repr, allowed))}, got {value!r}")


def to_validators(validators: Sequence[ValidatorLike]) -> list[Validator]:
    """The validators, if they are few and small; whether a worker has them, it says itself before it asks a model."""
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


def to_policy(policy: Policy | Mapping[str, Any] | None) -> Policy:
    """The policy, with its defaults and the deployment's rules filled in; the call's own rules win."""
    if policy is not None and not isinstance(policy, Policy | Mapping):
        raise InvalidRequestError(f"policy: expected a Policy or a dict, got {type(policy).__name__}")
    try:
        own = policy if isinstance(policy, Policy) else Policy.model_validate(dict(policy or {}))
    except ValidationError as error:
        raise InvalidRequestError(f"policy: {describe_validation_error(error)}") from None
    return own.model_copy(update={"rules": {**_deployment_rules(), **own.rules}})


def _deployment_rules() -> Mapping[Category, RuleAction]:
    """Rules of DURABLE_LLM_RULES, "permission=fail, timeout=next"."""
    written = [entry.partition("=") for entry in os.environ.get(RULES_VARIABLE, "").split(",") if entry.strip()]
    try:
        return Policy.model_validate({"rules": {name.strip(): action.strip() for name, _, action in written}}).rules
    except ValidationError as error:
        raise InvalidRequestError(
            f"{RULES_VARIABLE}: {describe_validation_error(error)}; write 'category=action' pairs separated by commas"
        ) from None


def split_deadline(deadline: Deadline) -> tuple[float | None, datetime | None]:
    """Seconds from acceptance, or a moment, which may be over: exactly one of the two."""
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
    """Whether the moment, where one was given, is over."""
    return deadline_at is not None and deadline_at <= datetime.now(UTC)


def check_not_passed(deadline_at: datetime | None) -> None:
    """Refuse to start a call at whose deadline nobody could answer any more."""
    if has_passed(deadline_at):
        raise InvalidRequestError("deadline: lies in the past")


def check_call_id(call_id: str) -> str:
    """The id, if Temporal takes it and it may be shown."""
    if not isinstance(call_id, str) or not call_id.strip():
        raise InvalidRequestError("call_id: expected a text that is not empty")
    _check_label("call_id", call_id, _MAX_ID_BYTES)
    return call_id


def check_session(session: str | None) -> None:
    """Refuse a session that Temporal could not index or that should not be shown."""
    if session is None:
        return
    if not isinstance(session, str) or not session:
        raise InvalidRequestError("session: expected a text that is not empty")
    _check_label("session", session, _MAX_LABEL_BYTES)


def check_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """The labels, if they are few, short texts without secrets."""
    if metadata is not None and not isinstance(metadata, Mapping):
        raise InvalidRequestError(f"metadata: expected a dict, got {type(metadata).__name__}")
    checked = dict(metadata or {})
    if any(not isinstance(text, str) for pair in checked.items() for text in pair):
        raise InvalidRequestError("metadata: expected texts under texts")
    _check_label("metadata", " ".join(text for pair in checked.items() for text in pair), _MAX_METADATA_BYTES)
    return checked


def check_sizes(request: CallRequest, prompt: Prompt, *, with_store: bool = False) -> int:
    """Bytes of the prompt as JSON, if Temporal or the store can keep it.

    Raises:
        InvalidRequestError: naming what is too large, or what no JSON can hold.
    """
    for spec in request.models:
        if (size := _json_bytes("config", spec)) > MAX_SPEC_BYTES:
            raise InvalidRequestError(
                f"config: {spec.name} takes {size:,} bytes as JSON and the limit is {MAX_SPEC_BYTES:,}; a large schema "
                "goes into response_format or tools"
            )
    if (size := _json_bytes("config", request)) > MAX_REQUEST_BYTES:
        raise InvalidRequestError(f"config: takes {size:,} bytes as JSON and the limit is {MAX_REQUEST_BYTES:,}")
    size = _json_bytes("messages", prompt)
    limit = MAX_STORED_PROMPT_BYTES if with_store else MAX_PROMPT_BYTES
    if size > limit:
        raise InvalidRequestError(
            f"messages: the prompt takes {size:,} bytes as JSON and the limit is {limit:,}; {_instead(size)}"
        )
    return size


def _instead(size: int) -> str:
    shorten = "shorten it, or pass large images by address instead of inline"
    if size > MAX_STORED_PROMPT_BYTES:
        return shorten
    return f"set DURABLE_LLM_STORE here and on the workers ({MAX_STORED_PROMPT_BYTES:,} then), {shorten}"


def _json_bytes(part: str, value: BaseModel) -> int:
    try:
        return len(value.model_dump_json().encode())
    except (PydanticSerializationError, ValueError) as error:
        raise InvalidRequestError(f"{part}: not representable as JSON ({type(error).__name__})") from None


def _check_label(name: str, text: str, limit: int) -> None:
    """Refuse a label that is too long, unprintable or recognisable as a secret: labels are shown everywhere."""
    size = len(text.encode(errors="surrogatepass"))
    if size > limit:
        raise InvalidRequestError(f"{name}: takes {size:,} bytes and the limit is {limit:,}")
    if _UNPRINTABLE.search(text):
        raise InvalidRequestError(f"{name}: holds a control character or half of one that is written in two")
    if find_literal_key(text):
        raise InvalidRequestError(f"{name}: holds what looks like a key; this is shown everywhere")
