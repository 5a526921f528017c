"""The record of one attempt's HTTP exchange, and the guard that admits its request.

litellm guesses a failure's status from its message, hides headers and repeats requests. So facts come from this record
and not from litellm's guesses. The guard makes sure that one attempt is billed once and that no key follows a redirect
to another host.
"""

import base64
import binascii
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn
from urllib.parse import unquote

import httpx

from durable_llm.contract.facts import LocalFault, Sent

from ..secrets.known_secrets import LONG_SECRET
from .event_stream import fold, is_event_stream

FAILURE_BYTES: Final = 64 * 1024
"""Bytes of a failure's body that are kept and passed on to litellm. litellm searches it for secrets, and with megabytes
that would block every heartbeat for seconds."""

ANSWER_BYTES: Final = 64 * 1024 * 1024
"""Bytes of an answer's body that are kept. A streamed answer takes a few hundred per token."""

INLINE: Final = (
    "a worker fetches nothing: put images and files into the message, as data URLs (data:image/png;base64,...)"
)
"""What to write instead of an address that a provider cannot fetch."""


_REQUEST_IDS: Final = (
    "x-request-id", "request-id", "apim-request-id", "x-amzn-requestid", "x-generation-id", "x-goog-request-id",
    "mistral-correlation-id", "x-groq-request-id", "cf-ray",
)  # fmt: skip


class RefusedError(httpx.RequestError):
    """The guard refused a request."""


@dataclass
class Exchange:
    """One attempt's request and response on the wire."""

    deliver: Callable[[httpx.Request], httpx.Response] | None = None
    """Answers the request instead of the network: for a line of a batch. None: the request is sent."""
    only_host: str | None = None
    """The only host and port that may be asked. None: the provider's own."""
    required_fragments: Collection[str] = field(default=(), repr=False)
    """Fragments of the prompt's images and files that the request must contain."""
    forbidden: Collection[str] = field(default=(), repr=False)
    """Credentials of this worker that the request must not carry."""
    trace: Mapping[str, str] = field(default_factory=dict)
    """Trace context that the request takes along, as headers."""
    sent: Sent = Sent.NO
    requests: int = 0
    """Requests that may be billed: at most one."""
    response_id: str | None = None
    """The background response that is followed. Polls of it are admitted too, and are not billed."""
    polls: int = 0
    """How often it was polled."""
    host: str | None = None
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    raw_body: bytearray = field(default_factory=bytearray, repr=False)
    complete: bool = False
    """Whether the body was read to its end."""
    error: BaseException | None = None
    """The transport's error that ended the exchange."""
    refused: LocalFault | None = None
    """Why the guard refused the request."""
    refusal: str = ""

    def admit(self, request: httpx.Request) -> None:
        """Admit the attempt's one request, and polls of the response that it started.

        The record holds the last one. The rules for keys hold for polls too.

        Raises:
            RefusedError: a second request, another method, another host than the spec's, another credential, or a
                missing part of the prompt.
        """
        polls = self.response_id is not None and _polls(self.response_id, request)
        if self.requests and not polls:
            raise RefusedError("one attempt is one request", request=request)
        target = request.url.netloc.decode()
        if not polls and request.method != "POST":
            text = f"litellm would {request.method} something from {target} in addition; {INLINE}"
            self._refuse(LocalFault.UNSUPPORTED, text, request)
        if self.only_host is not None and not _same_host(self.only_host, request.url):
            self._refuse(LocalFault.UNSUPPORTED, f"litellm asks {target}, not the spec's api_base", request)
        if _carries(request, self.forbidden):
            text = (
                f"the request to {target} would carry a credential that is not this spec's; set the spec's api_key to "
                "a reference, or list the pair in DURABLE_LLM_KEYS"
            )
            self._refuse(LocalFault.KEY_NOT_ALLOWED, text, request)
        if not polls and _lacks(request, self.required_fragments):
            text = "litellm leaves out an image or a file of the prompt; use a model that takes it"
            self._refuse(LocalFault.UNSUPPORTED, text, request)
        self.requests, self.host, self.only_host = 1, target, self.only_host or str(request.url)
        self.refused, self.refusal = None, ""  # an earlier refused request about the model does not matter
        if polls:
            self.polls += 1
            self._forget_response()
        else:
            self.sent = Sent.UNKNOWN

    def follow(self, response_id: str) -> None:
        """From now on admit only polls of this response. Its request was sent and is paid for."""
        self.response_id, self.requests, self.sent = response_id, 1, Sent.YES

    def refuse_unobserved(self, request: httpx.Request) -> None:
        """Refuse a request that an attempt can neither observe nor cancel.

        Raises:
            RefusedError: always.
        """
        self._refuse(LocalFault.UNSUPPORTED, "litellm cannot ask this provider asynchronously", request)

    def refuse_response(self, text: str, request: httpx.Request) -> NoReturn:
        """Refuse a response that would cost the worker too much.

        Raises:
            RefusedError: always.
        """
        self._refuse(LocalFault.UNSUPPORTED, text, request)

    def answered(self, response: httpx.Response) -> None:
        """Record status and headers."""
        self.sent = Sent.YES
        self.status = response.status_code
        self.headers = {name.lower(): value for name, value in response.headers.items()}

    def received(self, chunk: bytes) -> bytes:
        """Record a piece of the body. Returns its part within the limit."""
        limit = ANSWER_BYTES if self.succeeded else FAILURE_BYTES
        kept = chunk[: max(0, limit - len(self.raw_body))]
        self.raw_body += kept
        return kept

    def broke(self, error: BaseException, *, connected: bool) -> None:
        """Record an error of the transport."""
        self.error = error
        self.sent = Sent.YES if connected or self.response_id is not None else Sent.NO

    @property
    def request_id(self) -> str | None:
        """The provider's id of the request."""
        return next((self.headers[name][:80] for name in _REQUEST_IDS if self.headers.get(name)), None)

    @property
    def succeeded(self) -> bool:
        """Whether the status is a success."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def body(self) -> bytes:
        """The body without its content encoding, or as it came if it cannot be decoded."""
        encoding = self.headers.get("content-encoding")
        if not encoding:
            return bytes(self.raw_body)
        try:
            return httpx.Response(200, headers={"content-encoding": encoding}, content=bytes(self.raw_body)).content
        except httpx.DecodingError:
            return bytes(self.raw_body)

    @property
    def streamed(self) -> bool:
        """Whether the response is a stream of events."""
        return is_event_stream(self.headers.get("content-type", ""), bytes(self.raw_body[:100]))

    def json(self) -> Any:
        """The body's JSON value, for a stream its folded events. None: not JSON."""
        if self.streamed:
            return fold(self.body)
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    def _forget_response(self) -> None:
        self.status, self.headers, self.raw_body = None, {}, bytearray()
        self.complete, self.error = False, None

    def _refuse(self, fault: LocalFault, text: str, request: httpx.Request) -> NoReturn:
        self.refused, self.refusal = fault, text
        raise RefusedError(text, request=request)


_current: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


def current() -> Exchange | None:
    """The exchange of the running attempt. None: no attempt is running."""
    return _current.get()


@contextmanager
def recording(exchange: Exchange) -> Iterator[Exchange]:
    """Make `exchange` the current one."""
    token = _current.set(exchange)
    try:
        yield exchange
    finally:
        _current.reset(token)


def _polls(response_id: str, request: httpx.Request) -> bool:
    """Whether a request polls or cancels a response."""
    path = f"/responses/{response_id}"
    asks = request.method == "GET" and request.url.path.endswith(path)
    return asks or (request.method == "POST" and request.url.path.endswith(f"{path}/cancel"))


def _same_host(allowed: str, url: httpx.URL) -> bool:
    return httpx.URL(allowed).host == url.host and _port(httpx.URL(allowed)) == _port(url)


def _port(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _carries(request: httpx.Request, secrets: Collection[str]) -> bool:
    """Whether the request holds one of `secrets`, in plain or in Basic authorization."""
    if not secrets:
        return False
    url = str(request.url)
    head = "\n".join([url, unquote(url), *request.headers.values(), *_basic(request.headers.get("authorization", ""))])
    if any(secret in head for secret in secrets):
        return True
    body = _content(request)
    return any(len(secret) >= LONG_SECRET and secret.encode() in body for secret in secrets)


def _lacks(request: httpx.Request, pieces: Collection[str]) -> bool:
    """Whether one of `pieces` is missing. A body that cannot be read passes."""
    body = _content(request)
    return bool(body) and any(piece.encode() not in body for piece in pieces)


def _content(request: httpx.Request) -> bytes:
    return request.content if hasattr(request, "_content") else b""


def _basic(authorization: str) -> list[str]:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return []
    try:
        return [base64.b64decode(value).decode(errors="replace")]
    except binascii.Error:
        return []
