"""The encryption keys as an operator writes them: "2026-11=BASE64,2026-05=BASE64".

The first key encrypts and all keys decrypt, so a rotation adds an entry at the front. Client, command line, worker and
codec server read the same two variables. An error never repeats an entry, because it may be a bare key.
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

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")  # shorter than a key: a bare key is not an id


def load_keys(environment: Mapping[str, str]) -> dict[str, bytes]:
    """Keys by their ids, in their order. {} if none are set.

    Raises:
        InvalidRequestError: an entry cannot be used; says which one and what to write.
    """
    try:
        return parse_keys(secret_setting(environment, KEYS_VARIABLE))
    except ValueError as error:
        raise InvalidRequestError(str(error)) from None


def parse_keys(text: str) -> dict[str, bytes]:
    """Parse entries ID=BASE64, separated by commas or line breaks.

    Raises:
        ValueError: an entry is not such a pair, its key has another length, or an id occurs twice.
    """
    keys: dict[str, bytes] = {}
    entries = [entry.strip() for entry in re.split(r"[,\n]", text) if entry.strip()]
    for number, entry in enumerate(entries, 1):
        key_id, key = _parse(f"{KEYS_VARIABLE}: entry {number}", entry)
        if key_id in keys:
            raise ValueError(f"{KEYS_VARIABLE}: entry {number} repeats the id {key_id!r}; ids are unique")
        keys[key_id] = key
    return keys


def _parse(place: str, entry: str) -> tuple[str, bytes]:
    key_id, _, encoded = (part.strip() for part in entry.partition("="))
    if not encoded:
        raise ValueError(f"{place} is not a pair; {_HOW_TO_WRITE}")
    if not _ID.fullmatch(key_id):
        raise ValueError(f"{place}: an id has at most 40 letters, digits, '.', '_' and '-'")
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{place} is not base64; {_HOW_TO_WRITE}") from None
    if len(key) != KEY_BYTES:
        raise ValueError(f"{place} has {len(key)} bytes and needs {KEY_BYTES}; {_HOW_TO_WRITE}")
    return key_id, key
