"""The codec server: decrypts payloads for the Temporal UI and the `temporal` command line.

Temporal's server never has a key, so its UI shows encrypted payloads. With the address of this server, the UI sends
each payload here from the reader's browser and shows the result. Access to this server is access to every prompt. So it
listens on loopback by default, and it logs no payload and no token.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from urllib.parse import parse_qs

import uvicorn
from google.protobuf.json_format import MessageToJson, Parse, ParseError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.converter import PayloadCodec

from durable_llm.encryption.codec import EncryptionCodec
from durable_llm.errors import DecryptionError

from ..http import absorb_signals, listening
from ..logs import show_logs
from ..settings import LogSettings, from_environment
from .access import COOKIE, Access
from .login import LOGIN_HEADERS, logged_in_page, login_page
from .settings import load_codec_settings

logger = logging.getLogger("durable_llm.codec")

MAX_BODY_BYTES: Final = 16 * 1024 * 1024
"""A page of a history as JSON with base64. Temporal's own messages have at most 4 MiB."""

_ASKED_HEADERS: Final = ("authorization", "authorization-extras", "content-type", "x-namespace")

_Work = Callable[[Sequence[Payload]], Awaitable[list[Payload]]]


def codec_app(codec: PayloadCodec, access: Access, origins: Sequence[str]) -> Starlette:
    """The server's application: Temporal's two endpoints, a login for browsers, and a health check."""
    reader, login = _Reader(codec), _Login(access, origins)
    return Starlette(
        routes=[
            Route("/decode", _endpoint(access, reader.decode), methods=["POST"]),
            Route("/encode", _endpoint(access, codec.encode), methods=["POST"]),
            Route("/login", login.show, methods=["GET"]),
            Route("/login", login.check, methods=["POST"]),
            Route("/logout", _log_out, methods=["POST"]),
            Route("/health", _healthy, methods=["GET"]),
        ],
        middleware=[
            # It answers preflight requests before the login check: browsers send them without credentials.
            Middleware(
                CORSMiddleware, allow_origins=origins, allow_methods=["POST"], allow_headers=_ASKED_HEADERS,
                allow_credentials=True,
            )
        ],
    )  # fmt: skip


class _Reader:
    """Decrypts what it can: a payload with a lost key does not hide the rest of a history."""

    def __init__(self, codec: PayloadCodec) -> None:
        self._codec = codec

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [await self._read(payload) for payload in payloads]

    async def _read(self, payload: Payload) -> Payload:
        try:
            return (await self._codec.decode([payload]))[0]
        except DecryptionError as error:
            logger.warning("a payload stays encrypted: %s", error.message)
            return payload


def _endpoint(access: Access, work: _Work) -> Callable[[Request], Awaitable[Response]]:
    async def respond(request: Request) -> Response:
        if not access.allows(request):
            raise HTTPException(401, "log in at /login, or send the header 'Authorization: Bearer TOKEN'")
        try:
            given = Parse(await _body(request), Payloads(), ignore_unknown_fields=True)
        except (ParseError, ValueError, RecursionError):  # not JSON of Payloads, not UTF-8, or nested too deeply
            raise HTTPException(400, "expected Temporal's Payloads as JSON") from None
        done = Payloads(payloads=await work(given.payloads))
        return Response(MessageToJson(done), media_type="application/json", headers={"Cache-Control": "no-store"})

    return respond


async def _body(request: Request) -> bytes:
    """The request's body, read up to the limit."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413, f"a body has at most {MAX_BODY_BYTES} bytes")
    return bytes(body)


class _Login:
    """The login page."""

    def __init__(self, access: Access, origins: Sequence[str]) -> None:
        self._access = access
        self._origins = origins

    async def show(self, request: Request) -> Response:
        if self._access.has_session(request):
            return self._page(logged_in_page(str(request.base_url), self._origins), 200)
        return self._page(login_page(), 200)

    async def check(self, request: Request) -> Response:
        [token, *_] = parse_qs((await _body(request)).decode(errors="replace")).get("token", [""])
        if not self._access.is_token(token):
            logger.warning("a login with a wrong token")
            return self._page(login_page("That is not the token."), 401)
        response = RedirectResponse("/login", 303)
        self._access.begin_session(response)
        return response

    @staticmethod
    def _page(page: str, status: int) -> Response:
        return Response(page, status, LOGIN_HEADERS, media_type="text/html")


async def _log_out(_: Request) -> Response:
    response = RedirectResponse("/login", 303)
    response.delete_cookie(COOKIE)
    return response


async def _healthy(_: Request) -> Response:
    return PlainTextResponse("ok")


async def run_codec_server(announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        announce: Called with one line when the server listens.

    Raises:
        SettingsError: a setting cannot be used, or the address is in use.
    """
    settings, keys = load_codec_settings()
    show_logs(from_environment(LogSettings))
    origins = settings.origins
    app = codec_app(EncryptionCodec(keys), Access(settings.secret_token, origins), origins)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, server_header=False))
    with listening(settings.host, settings.port, "DURABLE_LLM_CODEC_PORT") as listener:
        absorb_signals()
        port = listener.getsockname()[1]
        announce(f"codec server ready: {settings.host} port {port}, keys {', '.join(keys)}, for {', '.join(origins)}")
        await server.serve(sockets=[listener])
