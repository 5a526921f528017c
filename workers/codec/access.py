"""Who may have payloads decrypted: a program that sends the token, or a browser that has logged in with it.

Temporal's UI cannot hold a token of its own: without an identity provider all it can do is send the browser's cookies
along. So a person logs in at the codec server once, and the cookie that comes of it is a session, not the token:
browsers send a cookie to every port of a host, and what another program on this machine might catch must run out.
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
"""How long a browser stays logged in; a new token ends every session at once."""


class Access:
    """The one token, and the sessions of those who know it.

    Args:
        token: What a program sends and a person types.
        origins: Addresses of the UIs whose pages may use a browser's session.
    """

    def __init__(self, token: str, origins: Collection[str]) -> None:
        self._token = token.encode()
        self._origins = frozenset(origins)
        derived = hashlib.sha256(b"durable-llm codec session\0" + self._token).digest()
        self._sessions = Fernet(base64.urlsafe_b64encode(derived))

    def allows(self, request: Request) -> bool:
        """Whether `request` may have payloads decrypted: by its token, or by its session from a UI's page."""
        given = request.headers.get("authorization")
        if given is not None:
            scheme, _, token = given.partition(" ")
            return scheme.lower() == "bearer" and self.is_token(token)
        return request.headers.get("origin") in self._origins and self.has_session(request)

    def is_token(self, text: str) -> bool:
        """Whether `text` is the token, in the same time whatever it is."""
        return hmac.compare_digest(text.strip().encode(), self._token)

    def has_session(self, request: Request) -> bool:
        """Whether the browser has logged in and not too long ago."""
        try:
            self._sessions.decrypt(request.cookies.get(COOKIE, "").encode(), ttl=int(SESSION.total_seconds()))
        except InvalidToken:
            return False
        return True

    def begin_session(self, response: Response) -> None:
        """Let the browser that gets `response` in; over HTTPS alone where the UIs are reached so."""
        secure = all(origin.startswith("https://") for origin in self._origins)
        response.set_cookie(
            COOKIE, self._sessions.encrypt(b"").decode(), max_age=int(SESSION.total_seconds()), httponly=True,
            samesite="strict", secure=secure,
        )  # fmt: skip
