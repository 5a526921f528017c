"""Access to decryption: a program sends the token, a browser logs in with it.

Temporal's UI cannot hold a token. Without an identity provider it can only send the browser's cookies. So a person logs
in at the codec server, and the cookie holds a session that expires, not the token: a browser sends its cookies to every
port of a host, where another program may read them.
"""

import base64
import hashlib
import hmac
from collections.abc import Collection
from datetime import timedelta
from typing import Final

from cryptography.fernet import Fernet, InvalidToken
from starlette.requests import Request
from starlette.responses import Response

COOKIE: Final = "durable_llm_codec"

SESSION: Final = timedelta(hours=12)
"""How long a browser stays logged in. A new token ends every session."""


class Access:
    """The token, and the sessions of browsers that logged in with it.

    Args:
        token: A program sends it, a person types it.
        origins: Addresses of the UIs that may use a browser's session.
    """

    def __init__(self, token: str, origins: Collection[str]) -> None:
        self._token = token.encode()
        self._origins = frozenset(origins)
        derived = hashlib.sha256(b"durable-llm codec session\0" + self._token).digest()
        self._sessions = Fernet(base64.urlsafe_b64encode(derived))

    def allows(self, request: Request) -> bool:
        """Whether `request` has the token, or comes from a UI with a session."""
        given = request.headers.get("authorization")
        if given is not None:
            scheme, _, token = given.partition(" ")
            return scheme.lower() == "bearer" and self.is_token(token)
        return request.headers.get("origin") in self._origins and self.has_session(request)

    def is_token(self, text: str) -> bool:
        """Whether `text` is the token. Takes the same time for every text."""
        return hmac.compare_digest(text.strip().encode(), self._token)

    def has_session(self, request: Request) -> bool:
        """Whether the browser has a session that has not expired."""
        try:
            self._sessions.decrypt(request.cookies.get(COOKIE, "").encode(), ttl=int(SESSION.total_seconds()))
        except InvalidToken:
            return False
        return True

    def begin_session(self, response: Response) -> None:
        """Start a session in the browser that gets `response`: only over HTTPS if all UIs use HTTPS."""
        secure = all(origin.startswith("https://") for origin in self._origins)
        response.set_cookie(
            COOKIE, self._sessions.encrypt(b"").decode(), max_age=int(SESSION.total_seconds()), httponly=True,
            samesite="strict", secure=secure,
        )  # fmt: skip
