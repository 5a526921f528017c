"""What one attempt does on the wire: the record that failures are judged by, and the guard before it.

litellm guesses a failure's status from its message, hides headers and re-sends by itself. Without this record a call's
policy would judge litellm's guesses, and without the guard one attempt would be two bills, or a key would follow a
redirect to another host.
"""

import base64
import binascii
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

import httpx

from durable_llm.contract.facts import LocalFault, Sent

from ..secrets.known_secrets import LONG_SECRET
from .event_stream import fold, is_event_stream

FAILURE_BYTES: Final = 64 * 1024
"""Bytes that are kept of a failure's body, and that litellm gets to see of it: looking for secrets in a page of some
megabytes keeps it busy for seconds, and every other attempt's heartbeats waiting."""

ANSWER_BYTES: Final = 64 * 1024 * 1024
"""Bytes that are kept of an answer's body; a streamed answer takes a few hundred for each token."""

INLINE: Final = (
    "a worker fetches nothing: put images and files into the message, as data URLs (data:image/png;base64,...)"
)
"""What to write instead of an address that a provider cannot read by itself."""


_REQUEST_IDS: Final = (
    "x-request-id", "request-id", "apim-request-id", "x-amzn-requestid", "x-generation-id", "x-goog-request-id",
    "mistral-correlation-id", "x-groq-request-id", "cf-ray",
)  # fmt: skip


class RefusedError(httpx.RequestError):
    """The guard did not let a request out."""


@dataclass
class Exchange:
    """One attempt's request and response, as they were on the wire."""

    only_host: str | None = None
    """Host and port that may be asked; None: the provider's own."""
    required_fragments: Collection[str] = field(default=(), repr=False)
    """Pieces of the prompt's images and files: a request without them asks something else."""
    forbidden: Collection[str] = field(default=(), repr=False)
    """Credentials of this worker that are not this attempt's."""
    sent: Sent = Sent.NO
    requests: int = 0
    """Requests that may be billed: one at most."""
    response_id: str | None = None
    """The background response that is followed: questions about it pass besides the one request, and bill nothing."""
    polls: int = 0
    """How often that response was asked for."""
    host: str | None = None
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    raw_body: bytearray = field(default_factory=bytearray, repr=False)
    complete: bool = False
    """Whether the body was read to its end."""
    error: BaseException | None = None
    """What broke the exchange, as the transport told it."""
    refused: LocalFault | None = None
    """Why the guard let nothing out."""
    refusal: str = ""

    def admit(self, request: httpx.Request) -> None:
        """Let the attempt's one request pass, and questions about the response that it began.

        The record is that of the last one; a key may go nowhere with a question where it may not go with a request.

        Raises:
            RefusedError: it is a second one, asks by another method, goes to another host than the spec's, carries a
                foreign credential, or lacks a part of the prompt.
        """
        polls = self.response_id is not None and _polls(self.response_id, request)
        if self.requests and not polls:
            raise RefusedError("one attempt is one request", request=request)
        target = request.url.netloc.decode()
        if not polls and request.method != "POST":
            text = f"the provider's adapter would {request.method} something from {target} beside asking; {INLINE}"
            self._refuse(LocalFault.UNSUPPORTED, text, request)
        if self.only_host is not None and not _same_host(self.only_host, request.url):
            self._refuse(
                LocalFault.UNSUPPORTED, f"the provider's adapter asks {target}, not the spec's api_base", request
            )
        if _carries(request, self.forbidden):
            text = (
                f"the request to {target} would carry a credential that is not this spec's; set the spec's api_key to "
                "a reference, or list the pair in DURABLE_LLM_KEYS"
            )
            self._refuse(LocalFault.KEY_NOT_ALLOWED, text, request)
        if not polls and _lacks(request, self.required_fragments):
            text = "the provider's adapter leaves out an image or a file of the prompt; ask a model that takes it"
            self._refuse(LocalFault.UNSUPPORTED, text, request)
        self.requests, self.host, self.only_host = 1, target, self.only_host or str(request.url)
        self.refused, self.refusal = None, ""  # a refused question about the model before it does not matter
        if polls:
            self.polls += 1
            self._forget_response()
        else:
            self.sent = Sent.UNKNOWN

    def follow(self, response_id: str) -> None:
        """Let questions about this response pass from now on, and nothing else: it was asked for, and is paid for."""
        self.response_id, self.requests, self.sent = response_id, 1, Sent.YES

    def refuse_unobserved(self, request: httpx.Request) -> None:
        """Refuse a request on a path that an attempt can neither observe nor cancel.

        Raises:
            RefusedError: always.
        """
        self._refuse(LocalFault.UNSUPPORTED, "litellm has no asynchronous way to ask this provider", request)

    def answered(self, response: httpx.Response) -> None:
        """Record status and headers."""
        self.sent = Sent.YES
        self.status = response.status_code
        self.headers = {name.lower(): value for name, value in response.headers.items()}

    def received(self, chunk: bytes) -> bytes:
        """Record a piece of the body; what of it is within the limit."""
        limit = ANSWER_BYTES if self.succeeded else FAILURE_BYTES
        kept = chunk[: max(0, limit - len(self.raw_body))]
        self.raw_body += kept
        return kept

    def broke(self, error: BaseException, *, connected: bool) -> None:
        """Record that the transport gave up."""
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
        """The body without its content encoding; as it came when it cannot be decoded."""
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
        """The body's JSON value, a stream's events folded into one; None when it is none."""
        if self.streamed:
            return fold(self.body)
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    def _forget_response(self) -> None:
        self.status, self.headers, self.raw_body = None, {}, bytearray()
        self.complete, self.error = False, None

    def _refuse(self, fault: LocalFault, text: str, request: httpx.Request) -> None:
        self.refused, self.refusal = fault, text
        raise RefusedError(text, request=request)


_current: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


def current() -> Exchange | None:
    """The exchange of the attempt that this code runs for; None outside of attempts."""
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
    """Whether a request only asks how far a response is, or cancels it."""
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
    """Whether one of `pieces` is missing; a body that cannot be read is not judged."""
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
