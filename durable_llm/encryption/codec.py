"""Encryption of what Temporal stores: prompts, answers, error texts, ledgers, labels.

The server keeps every payload in its database, its backups and its UI. With keys set, each payload is encrypted before
it leaves the process and decrypted where it is read. The server never has a key.

A payload that is not encrypted is read as it is, so encryption can be switched on while calls run. A payload with an
unknown key raises an error that names the key. In a worker this fails the workflow task, and Temporal gives the task to
workers again until one has the key.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import (
    DataConverter,
    DefaultFailureConverter,
    DefaultFailureConverterWithEncodedAttributes,
    PayloadCodec,
    PayloadConverter,
)
from temporalio.exceptions import ApplicationError

from durable_llm.contract.names import ATTEMPT_FAILED
from durable_llm.encryption.keys import KEYS_VARIABLE, load_keys
from durable_llm.errors import CALL_ENDINGS, DecryptionError, InvalidRequestError

if TYPE_CHECKING:
    from durable_llm.encryption.aes_gcm import Cipher

ENCODING: Final = b"binary/encrypted"
CIPHER: Final = b"AES-256-GCM"
KEY_ID: Final = "encryption-key-id"
_CIPHER_NAME: Final = "encryption-cipher"
_SHOWN_ID: Final = 40


def data_converter(environment: Mapping[str, str] | None = None) -> DataConverter:
    """The converter of clients and workers: pydantic's, with encryption if keys are set.

    Args:
        environment: The variables with DURABLE_LLM_ENCRYPTION_KEYS or DURABLE_LLM_ENCRYPTION_KEYS_FILE. None: those of
            the process.

    Raises:
        InvalidRequestError: the keys cannot be used, or `cryptography` is not installed.
    """
    keys = load_keys(os.environ if environment is None else environment)
    return dataclasses.replace(
        pydantic_data_converter,
        payload_codec=EncryptionCodec(keys),
        # By default messages and stack traces of failures are not payloads, so they would not be encrypted.
        failure_converter_class=EncodedFailureConverter if keys else FailureConverter,
    )


class FailureConverter(DefaultFailureConverter):
    """Leaves out the stack trace of a call's own failures: operators read our words, not the SDK's code."""

    def to_failure(self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure) -> None:
        """See base class."""
        super().to_failure(_without_trace(exception), payload_converter, failure)


class EncodedFailureConverter(DefaultFailureConverterWithEncodedAttributes):
    """The same, with messages encrypted."""

    def to_failure(self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure) -> None:
        """See base class."""
        super().to_failure(_without_trace(exception), payload_converter, failure)


def _without_trace(exception: BaseException) -> BaseException:
    ours = isinstance(exception, ApplicationError) and exception.type in (ATTEMPT_FAILED, *CALL_ENDINGS)
    return exception.with_traceback(None) if ours else exception


class EncryptionCodec(PayloadCodec):
    """Encrypts with the first key, decrypts with the one that a payload names.

    Args:
        keys: Keys of 32 bytes by their ids. {}: nothing is encrypted.

    Raises:
        InvalidRequestError: keys are given, and `cryptography` is not installed.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._ciphers = _ciphers(keys)
        self._encrypts_with = next(iter(keys), None)

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """See base class."""
        if self._encrypts_with is None:
            return list(payloads)
        return [self._encrypted(payload, self._encrypts_with) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """See base class.

        Raises:
            DecryptionError: a payload cannot be decrypted; names its key's id and the reason.
        """
        return [
            self._decrypted(payload) if payload.metadata.get("encoding") == ENCODING else payload
            for payload in payloads
        ]

    def _encrypted(self, payload: Payload, key_id: str) -> Payload:
        metadata = {"encoding": ENCODING, _CIPHER_NAME: CIPHER, KEY_ID: key_id.encode()}
        sealed = self._ciphers[key_id].encrypt(payload.SerializeToString(), _bound(metadata))
        return Payload(metadata=metadata, data=sealed)

    def _decrypted(self, payload: Payload) -> Payload:
        key_id = payload.metadata.get(KEY_ID, b"").decode(errors="replace")
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise DecryptionError(self._unknown(key_id[:_SHOWN_ID]))
        try:
            return Payload.FromString(cipher.decrypt(payload.data, _bound(payload.metadata)))
        except ValueError as error:
            raise DecryptionError(
                f"a payload with the key {key_id!r} cannot be decrypted: {error}; {KEYS_VARIABLE} must have the "
                "same key under this id everywhere"
            ) from None

    def _unknown(self, key_id: str) -> str:
        held = ", ".join(map(repr, self._ciphers)) or "none"
        return (
            f"encrypted with the key {key_id!r}, which this process does not have (it has {held}); add it to "
            f"{KEYS_VARIABLE}"
        )


def _bound(metadata: Mapping[str, bytes]) -> bytes:
    """The metadata that a ciphertext is bound to, so that nobody can change it."""
    return b"\n".join(metadata.get(name, b"") for name in ("encoding", _CIPHER_NAME, KEY_ID))


def _ciphers(keys: Mapping[str, bytes]) -> "dict[str, Cipher]":
    if not keys:
        return {}
    try:
        from durable_llm.encryption.aes_gcm import Cipher  # noqa: PLC0415  # an extra, needed only with keys
    except ModuleNotFoundError as error:
        raise InvalidRequestError(
            f"{KEYS_VARIABLE} is set, and encryption needs {error.name}: pip install 'durable-llm[crypto]'"
        ) from None
    return {key_id: Cipher(key) for key_id, key in keys.items()}
