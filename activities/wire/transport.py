"""One observed HTTP request per attempt: the transport under all of litellm's clients.

litellm re-sends a request after a connection reset, provider SDKs retry by themselves, and HTTP clients follow
redirects with the key in their hands. All of them send through a transport that litellm's one factory makes, and this
module puts a guard around what that factory makes. Without it a retry would be billed and never seen.
"""

import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import aiohttp
import httpx

from durable_llm.contract.facts import Sent

from ..litellm_setup import AsyncHTTPHandler, LiteLLMAiohttpTransport, http2_enabled, litellm
from .exchange import Exchange, RefusedError, current

CONNECT_TIMEOUT_S: Final = 15.0
"""A host that does not take a connection by then is a failure of its own, and nothing was sent."""

_TIMEOUTS: Final = {"connect": CONNECT_TIMEOUT_S, "read": None, "write": None, "pool": None}
"""Reading has no timeout of its own: the attempt has one, for the whole of it."""


class ObservedTransport(httpx.AsyncBaseTransport):
    """A transport that serves the current attempt's one request and records it."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the attempt's request.

        Raises:
            RefusedError: there is no attempt, or it has had its request, or the request may not leave.
            httpx.TransportError: as the transport underneath does.
        """
        exchange = current()
        if exchange is None:
            raise RefusedError("requests are sent by attempts only", request=request)
        exchange.admit(request)
        request.headers["accept-encoding"] = "identity"  # the record must be readable, and bodies are small
        request.extensions = {**request.extensions, "timeout": _TIMEOUTS}
        self._trace()
        try:
            response = await self.inner.handle_async_request(request)
        except Exception as error:
            exchange.broke(error, connected=not _never_connected(error))
            raise
        exchange.answered(response)
        stream: Any = response.stream
        response.stream = _RecordedStream(stream, exchange)
        return response

    async def aclose(self) -> None:
        """Close the transport underneath."""
        await self.inner.aclose()

    def _trace(self) -> None:
        """Have aiohttp tell when a request's head has been written: only then can it have been billed."""
        if isinstance(self.inner, LiteLLMAiohttpTransport):
            media_fragments = self.inner.get_valid_client_session().trace_configs
            if _HEAD_SENT not in media_fragments:
                media_fragments.append(_HEAD_SENT)


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


class NoSyncTransport(httpx.BaseTransport):
    """Refuses: a request in a thread cannot be cancelled, and holds one of litellm's few threads while it waits."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send nothing.

        Raises:
            RefusedError: always.
        """
        if (exchange := current()) is not None:
            exchange.refuse_unobserved(request)
        raise RefusedError("requests are sent by attempts only", request=request)


def _never_connected(error: Exception) -> bool:
    """Whether the transport failed before it could send anything.

    litellm maps aiohttp's write errors to ConnectError too, so its cause decides where there is one.
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
    """Put the guard under every client that litellm makes from now on, and drop those it made before."""
    if isinstance(getattr(litellm, "sync_transport", None), NoSyncTransport):
        return
    factory: Any = staticmethod(_observed_factory)
    AsyncHTTPHandler.create_async_transport = factory
    AsyncHTTPHandler._create_async_transport = factory  # litellm's own alias of it
    AsyncHTTPHandler.create_httpx_proxy_mounts = staticmethod(_observed_mounts)
    litellm.sync_transport = NoSyncTransport()
    litellm.client_session = httpx.Client(transport=NoSyncTransport())
    litellm.in_memory_llm_clients_cache.flush_cache()


def _observed_factory(
    ssl_context: ssl.SSLContext | None = None, ssl_verify: bool | None = None, shared_session: Any = None
) -> ObservedTransport:
    made = _original_factory(ssl_context=ssl_context, ssl_verify=ssl_verify, shared_session=shared_session)
    if made is None:  # litellm leaves it to httpx to make one
        verify = ssl_context if ssl_context is not None else ssl_verify is not False
        made = httpx.AsyncHTTPTransport(verify=verify, http2=http2_enabled(), limits=httpx.Limits())
    return ObservedTransport(made)


def _observed_mounts(transport: Any, verify: Any, cert: Any) -> Mapping[str, ObservedTransport | None] | None:
    """HTTP(S)_PROXY for httpx's transport; aiohttp's looks them up by itself."""
    mounts = _original_mounts(getattr(transport, "inner", transport), verify=verify, cert=cert)
    return mounts and {pattern: inner and ObservedTransport(inner) for pattern, inner in mounts.items()}
