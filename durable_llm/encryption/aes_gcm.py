"""AES-256-GCM by `cryptography`. The only importer of that package, and imported only where keys are set."""

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES: Final = 12
"""96 random bits for each payload: one key is good for four billion payloads (NIST SP 800-38D, 8.3)."""


class Cipher:
    """One key. A ciphertext is the nonce, the encrypted bytes and the tag, one after the other."""

    def __init__(self, key: bytes) -> None:
        self._aes = AESGCM(key)

    def encrypt(self, plain: bytes, bound: bytes) -> bytes:
        """The ciphertext of `plain`, which decrypts only beside the very same `bound`."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._aes.encrypt(nonce, plain, bound)

    def decrypt(self, sealed: bytes, bound: bytes) -> bytes:
        """What was encrypted.

        Raises:
            ValueError: another key encrypted it, or ciphertext or `bound` were changed.
        """
        try:
            return self._aes.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound)
        except InvalidTag:
            raise ValueError("not encrypted with this key, or changed since") from None
