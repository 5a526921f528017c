"""AES-256-GCM by the package `cryptography`. Imported only if keys are set."""

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES: Final = 12
"""96 random bits per payload. One key may encrypt four billion payloads (NIST SP 800-38D, 8.3)."""


class Cipher:
    """One key. A ciphertext is nonce, encrypted bytes and tag, in this order."""

    def __init__(self, key: bytes) -> None:
        self._aes = AESGCM(key)

    def encrypt(self, plain: bytes, bound: bytes) -> bytes:
        """The ciphertext of `plain`. It decrypts only with the same `bound`."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._aes.encrypt(nonce, plain, bound)

    def decrypt(self, sealed: bytes, bound: bytes) -> bytes:
        """The plain text of `sealed`.

        Raises:
            ValueError: another key encrypted it, or ciphertext or `bound` has changed.
        """
        try:
            return self._aes.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound)
        except InvalidTag:
            raise ValueError("not encrypted with this key, or changed since") from None
