"""What is refused before anything is sent: each check says what is wrong and what to write instead."""

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError

from durable_llm.config import LLMConfig
from durable_llm.errors import InvalidRequestError, describe_validation_error
from durable_llm.key_reference import find_literal_key
from durable_llm.policy import Policy

Deadline = timedelta | datetime
"""Time from a call's first acceptance, or a moment with a time zone."""

_MAX_ID_BYTES: Final = 1000
_MAX_LABEL_BYTES: Final = 255
_MAX_METADATA_BYTES: Final = 2000
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check_choices(**choices: tuple[str, tuple[str, ...]]) -> None:
    """Refuse an option that is none of its words."""
    for name, (value, allowed) in choices.items():
        if value not in allowed:
            raise InvalidRequestError(f"{name}: expected one of {', '.join(map(repr, allowed))}, got {value!r}")


def check_supported(config: LLMConfig, validators: Collection[str]) -> LLMConfig:
    """Refuse what no worker of this version can do."""
    if validators:
        raise InvalidRequestError("validators: workers of this version register none; check the result instead")
    if asked := [spec.name for spec in config.models if spec.responses_api]:
        raise InvalidRequestError(
            f"responses_api: workers of this version speak Chat Completions only; leave it out for {', '.join(asked)}"
        )
    return config


def to_policy(policy: Policy | Mapping[str, Any] | None) -> Policy:
    """The policy, with its defaults filled in."""
    if isinstance(policy, Policy):
        return policy
    try:
        return Policy.model_validate(dict(policy or {}))
    except ValidationError as error:
        raise InvalidRequestError(f"policy: {describe_validation_error(error)}") from None


def split_deadline(deadline: Deadline) -> tuple[float | None, datetime | None]:
    """Seconds from acceptance, or a moment: exactly one of the two."""
    if isinstance(deadline, timedelta):
        if deadline <= timedelta(0):
            raise InvalidRequestError("deadline: expected a duration above zero")
        return deadline.total_seconds(), None
    if not isinstance(deadline, datetime):
        raise InvalidRequestError(f"deadline: expected a timedelta or a datetime, got {type(deadline).__name__}")
    if deadline.tzinfo is None:
        raise InvalidRequestError("deadline: the datetime has no time zone; write datetime(..., tzinfo=UTC)")
    if deadline <= datetime.now(UTC):
        raise InvalidRequestError("deadline: lies in the past")
    return None, deadline.astimezone(UTC)


def check_call_id(call_id: str) -> str:
    """The id, if Temporal takes it and it may be shown."""
    if not isinstance(call_id, str) or not call_id.strip():
        raise InvalidRequestError("call_id: expected a text that is not empty")
    if len(call_id.encode()) > _MAX_ID_BYTES:
        raise InvalidRequestError(
            f"call_id: takes {len(call_id.encode()):,} bytes and Temporal allows {_MAX_ID_BYTES:,}"
        )
    if _CONTROL.search(call_id):
        raise InvalidRequestError("call_id: holds a control character")
    if find_literal_key(call_id):
        raise InvalidRequestError("call_id: holds what looks like a key; ids are shown everywhere")
    return call_id


def check_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """The labels, if they are few, short texts without secrets."""
    checked = dict(metadata or {})
    if any(not isinstance(key, str) or not isinstance(value, str) for key, value in checked.items()):
        raise InvalidRequestError("metadata: expected texts under texts")
    if any(find_literal_key(value) for value in checked.values()):
        raise InvalidRequestError("metadata: holds what looks like a key; metadata is shown in the Temporal UI")
    if sum(len(key.encode()) + len(value.encode()) for key, value in checked.items()) > _MAX_METADATA_BYTES:
        raise InvalidRequestError(f"metadata: the limit is {_MAX_METADATA_BYTES:,} bytes in all")
    return checked


def check_session(session: str | None) -> None:
    """Refuse a session label that Temporal could not index or that should not be shown."""
    if session is not None and (not session or len(session.encode()) > _MAX_LABEL_BYTES or find_literal_key(session)):
        raise InvalidRequestError(f"session: expected a short label, at most {_MAX_LABEL_BYTES} bytes, and no secret")
