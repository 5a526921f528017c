"""One observed HTTP request per attempt: the transport under all of litellm's clients.

litellm repeats a request after a connection reset, provider SDKs retry, and HTTP clients follow redirects and send the
key along. All of them use a transport from litellm's one factory, and this module wraps what the factory makes. Without
it a retry would be billed and never seen.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import aiohttp
import httpx

from durable_llm.contract.facts import Sent

from ..litellm_setup import AsyncHTTPHandler, LiteLLMAiohttpTransport, http2_enabled, litellm
from .exchange import Exchange, RefusedError, current
from .mend import OversizedError, mend_body, mend_stream

CONNECT_TIMEOUT_S: Final = 15.0
"""Seconds to connect. A failure here means that nothing was sent."""

LARGE_BODY: Final = 256 * 1024
"""Bytes from which a body is read in a thread: the event loop has heartbeats to send."""

_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"content-encoding"})
_TIMEOUTS: Final = {"connect": CONNECT_TIMEOUT_S, "read": None, "write": None, "pool": None}
"""Reading has no timeout, because the attempt has one."""


class ObservedTransport(httpx.AsyncBaseTransport):
    """A transport that sends the current attempt's one request and records it."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the attempt's request.

        Raises:
            RefusedError: no attempt is running, it has sent its request, or the request is not allowed.
            httpx.TransportError: the wrapped transport failed.
        """
        exchange = current()
        if exchange is None:
            raise RefusedError("requests are sent by attempts only", request=request)
        exchange.admit(request)
        for name, value in exchange.trace.items():
            request.headers.setdefault(name, value)  # a caller's own stays
        request.headers["accept-encoding"] = "identity"  # the record must be readable, and bodies are small
        request.extensions = {**request.extensions, "timeout": _TIMEOUTS}
        self._trace()
        try:
            response = exchange.deliver(request) if exchange.deliver else await self.inner.handle_async_request(request)
        except Exception as error:
            exchange.broke(error, connected=not _never_connected(error))
            raise
        exchange.answered(response)
        stream: Any = response.stream
        response.stream = _RecordedStream(stream, exchange)
        if not exchange.succeeded:
            return response
        if response.headers.get("content-encoding", "identity").lower() not in ("identity", ""):
            await response.stream.aclose()
            exchange.refuse_response("the provider compressed its response, which was not asked for", request)
        if exchange.streamed:
            response.stream = _MendedStream(response.stream, exchange, request)
            return response
        body = b"".join([piece async for piece in response.stream])
        await response.stream.aclose()
        try:
            mended = await asyncio.to_thread(mend_body, body) if len(body) > LARGE_BODY else mend_body(body)
        except OversizedError as error:
            exchange.refuse_response(f"the response is too large to read: {error}", request)
        headers = [(name, value) for name, value in response.headers.raw if name.lower() not in _FRAMING]
        return httpx.Response(response.status_code, headers=headers, content=mended, extensions=response.extensions)

    async def aclose(self) -> None:
        """Close the wrapped transport."""
        await self.inner.aclose()

    def _trace(self) -> None:
        """Let aiohttp report when a request's head has been written. Only then may it be billed."""
        if isinstance(self.inner, LiteLLMAiohttpTransport):
            configs = self.inner.get_valid_client_session().trace_configs
            if _HEAD_SENT not in configs:
                configs.append(_HEAD_SENT)


class _RecordedStream(httpx.AsyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream, exchange: Exchange) -> None:
        self._inner = inner
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._inner:
                yield self._exchange.received(chunk)
        except Exception as error:
            self._exchange.broke(error, connected=True)
            raise
        self._exchange.complete = True

    async def aclose(self) -> None:
        await self._inner.aclose()


class _MendedStream(httpx.AsyncByteStream):
    """What litellm reads of a recorded stream."""

    def __init__(self, recorded: _RecordedStream, exchange: Exchange, request: httpx.Request) -> None:
        self._recorded = recorded
        self._exchange = exchange
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in mend_stream(aiter(self._recorded)):
                yield piece
        except OversizedError as error:
            self._exchange.refuse_response(f"the response is too large to read: {error}", self._request)

    async def aclose(self) -> None:
        await self._recorded.aclose()


class NoSyncTransport(httpx.BaseTransport):
    """Refuses every request: one in a thread cannot be cancelled, and blocks one of litellm's few threads."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send nothing.

        Raises:
            RefusedError: always.
        """
        if (exchange := current()) is not None:
            exchange.refuse_unobserved(request)
        raise RefusedError("requests are sent by attempts only", request=request)


def _never_connected(error: Exception) -> bool:
    """Whether the transport failed before it sent anything.

    litellm maps aiohttp's write errors to ConnectError too, so the cause decides, if there is one.
    """
    if isinstance(error, RefusedError | httpx.UnsupportedProtocol | httpx.InvalidURL):
        return True
    if isinstance(cause := error.__cause__, aiohttp.ClientError):
        return isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | aiohttp.InvalidURL)
    return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)


async def _head_sent(*_: Any) -> None:
    if (exchange := current()) is not None:
        exchange.sent = Sent.YES


_HEAD_SENT: Final = aiohttp.TraceConfig()
_HEAD_SENT.on_request_headers_sent.append(_head_sent)
_HEAD_SENT.freeze()

_original_factory = AsyncHTTPHandler.create_async_transport
_original_mounts = AsyncHTTPHandler.create_httpx_proxy_mounts


def install_transport() -> None:
    """Wrap the transport of every client that litellm makes from now on. Drop its existing clients."""
    if isinstance(getattr(litellm, "sync_transport", None), NoSyncTransport):
        return
    factory: Any = staticmethod(_observed_factory)
    AsyncHTTPHandler.create_async_transport = factory
    AsyncHTTPHandler._create_async_transport = factory  # litellm's alias of it
    AsyncHTTPHandler.create_httpx_proxy_mounts = staticmethod(_observed_mounts)
    litellm.sync_transport = NoSyncTransport()
    litellm.client_session = httpx.Client(transport=NoSyncTransport())
    litellm.in_memory_llm_clients_cache.flush_cache()


def _observed_factory(
    ssl_context: ssl.SSLContext | None = None, ssl_verify: bool | None = None, shared_session: Any = None
) -> ObservedTransport:
    made = _original_factory(ssl_context=ssl_context, ssl_verify=ssl_verify, shared_session=shared_session)
    if made is None:  # litellm lets httpx make one
        verify = ssl_context if ssl_context is not None else ssl_verify is not False
        made = httpx.AsyncHTTPTransport(verify=verify, http2=http2_enabled(), limits=httpx.Limits())
    return ObservedTransport(made)


def _observed_mounts(transport: Any, verify: Any, cert: Any) -> Mapping[str, ObservedTransport | None] | None:
    """HTTP(S)_PROXY for httpx's transport. aiohttp's reads them by itself."""
    mounts = _original_mounts(getattr(transport, "inner", transport), verify=verify, cert=cert)
    return mounts and {pattern: inner and ObservedTransport(inner) for pattern, inner in mounts.items()}
