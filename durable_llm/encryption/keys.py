"""The keys that payloads are encrypted with, as an operator writes them: "2026-11=BASE64,2026-05=BASE64".

The first one encrypts, all of them decrypt, so a rotation is a new entry at the front. Client, command line, worker and
codec server read the same two variables. Nothing that was written is repeated in an error: an entry that is out of
shape may be a bare key.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Final

from durable_llm.encryption.secret_settings import secret_setting
from durable_llm.errors import InvalidRequestError

KEYS_VARIABLE: Final = "DURABLE_LLM_ENCRYPTION_KEYS"

KEY_BYTES: Final = 32
"""AES-256."""

_HOW_TO_WRITE: Final = "write ID=BASE64, the base64 of 32 random bytes ('head -c 32 /dev/urandom | base64')"

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")  # shorter than a key, so that a bare key is never taken for an id


def load_keys(environment: Mapping[str, str]) -> dict[str, bytes]:
    """Keys by their ids in the order in which they were written; {} where none are set.

    Raises:
        InvalidRequestError: they cannot be used; says which entry and what to write.
    """
    try:
        return parse_keys(secret_setting(environment, KEYS_VARIABLE))
    except ValueError as error:
        raise InvalidRequestError(str(error)) from None


def parse_keys(text: str) -> dict[str, bytes]:
    """Parse entries ID=BASE64, separated by commas or line breaks.

    Raises:
        ValueError: an entry is no such pair, its key has another length, or an id comes twice.
    """
    keys: dict[str, bytes] = {}
    entries = [entry.strip() for entry in re.split(r"[,\n]", text) if entry.strip()]
    for number, entry in enumerate(entries, 1):
        key_id, key = _parse(f"{KEYS_VARIABLE}: entry {number}", entry)
        if key_id in keys:
            raise ValueError(f"{KEYS_VARIABLE}: entry {number} has the id {key_id!r} of an earlier one; ids are unique")
        keys[key_id] = key
    return keys


def _parse(place: str, entry: str) -> tuple[str, bytes]:
    key_id, _, encoded = (part.strip() for part in entry.partition("="))
    if not encoded:
        raise ValueError(f"{place} is no pair; {_HOW_TO_WRITE}")
    if not _ID.fullmatch(key_id):
        raise ValueError(f"{place}: an id has letters, digits, '.', '_' and '-', and at most 40 of them")
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{place} is not base64; {_HOW_TO_WRITE}") from None
    if len(key) != KEY_BYTES:
        raise ValueError(f"{place} has {len(key)} bytes and needs {KEY_BYTES}; {_HOW_TO_WRITE}")
    return key_id, key
