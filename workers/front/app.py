"""The front's endpoints. Each request is a durable call; this file knows HTTP, and nothing of models."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from durable_llm.client.checks import fresh_call_id
from durable_llm.client.dispatcher import Dispatcher
from durable_llm.client.handle import CallHandle
from durable_llm.client.openai_chat import ChatRequest, chat_error, completion_of, read_chat_request
from durable_llm.client.openai_embeddings import embedding_list, read_embedding_request
from durable_llm.client.openai_stream import LAST_EVENT, event, live_chunks, whole_chunks
from durable_llm.client.tokens import Token
from durable_llm.contract.result import LLMResult
from durable_llm.errors import (
    CALL_ENDINGS,
    CallCancelledError,
    CallConflictError,
    CallTerminatedError,
    DispatcherUnavailableError,
    DurableLLMError,
    InvalidRequestError,
)

from .access import Chain, Chains, RefusedError, caller_of

logger = logging.getLogger("durable_llm.front")

KEY: Final = "idempotency-key"
STREAM_MODE: Final = "x-durable-llm-stream"
PING_S: Final = 15.0
"""Seconds of silence in a stream after which a comment is sent, so that proxies keep the connection."""

_ACCEPT: Final = timedelta(seconds=10)
"""How long Temporal may take to accept a call."""

_SETTLED_CALLS: Final = (*CALL_ENDINGS.values(), CallCancelledError, CallTerminatedError)
"""Errors of calls that have done what they could: a client that retries would multiply their attempts."""

_STOPS: Final = "the server stops; send the request again"

_T = TypeVar("_T")
_Handler = Callable[[Request, Token], Awaitable[Response]]


class Front:
    """The endpoints.

    Args:
        dispatcher: Makes the calls.
        chains: What stands behind the names of models.
        tokens: Who may call. None: anybody who reaches this server.

    Attributes:
        draining: Set when the server is to stop: open requests are answered with 503 and Retry-After.
    """

    def __init__(self, dispatcher: Dispatcher, chains: Chains, tokens: Sequence[Token] | None) -> None:
        self._dispatcher = dispatcher
        self._chains = chains
        self._tokens = tokens
        self.draining = asyncio.Event()

    def app(self, max_body_bytes: int) -> Starlette:
        """The application."""
        place = "/v1/chat/completions"
        return Starlette(
            routes=[
                Route(place, self._endpoint(self._create), methods=["POST"]),
                Route(f"{place}/{{call_id:path}}", self._endpoint(self._fetch), methods=["GET"]),
                Route(f"{place}/{{call_id:path}}", self._endpoint(self._cancel), methods=["DELETE"]),
                Route("/v1/embeddings", self._endpoint(self._embed), methods=["POST"]),
                Route("/v1/models", self._endpoint(self._list), methods=["GET"]),
                Route("/healthz", _healthy, methods=["GET"]),
                Route("/readyz", self._ready, methods=["GET"]),
            ],
            exception_handlers={HTTPException: _http_error},
            max_body_size=max_body_bytes,
        )

    def _endpoint(self, handle: _Handler) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            try:
                return await handle(request, caller_of(request, self._tokens))
            except RefusedError as refusal:
                return _error(refusal.status, refusal.message, "invalid_request_error", refusal.code)
            except DurableLLMError as error:
                return _failure(error)

        return respond

    async def _create(self, request: Request, caller: Token) -> Response:
        """A completion: the answer of a new call, or of the one that has the key."""
        asked = read_chat_request(await _body(request))
        chain = self._chains.find(asked.model, caller)
        key = _key(request)
        call_id = f"{caller.tenant}/{key or fresh_call_id()}"
        mode = request.headers.get(STREAM_MODE, chain.stream)
        if mode not in ("live", "settled"):
            raise RefusedError(400, f"{STREAM_MODE}: expected live or settled")
        handle = await self._submit(asked, chain, call_id, caller, is_live=asked.stream and mode == "live")
        if asked.stream and mode == "live":
            chunks = live_chunks(handle.stream(), asked, call_id)
            return StreamingResponse(
                self._events(chunks, handle, keyed=key is not None), headers=_headers(handle),
                media_type="text/event-stream",
            )  # fmt: skip
        result = await self._wait(request, handle.result())
        if result is None:
            if key is None:
                await _cancel_quietly(handle)  # nobody can ask for it again
            return _come_back()
        if asked.stream:
            events = [event(chunk) for chunk in whole_chunks(result, asked, call_id)]
            return Response(b"".join([*events, LAST_EVENT]), 200, _headers(handle, result), "text/event-stream")
        return JSONResponse(completion_of(result, call_id), headers=_headers(handle, result))

    async def _submit(
        self, asked: ChatRequest, chain: Chain, call_id: str, caller: Token, *, is_live: bool
    ) -> CallHandle:
        options: Any = {"session": caller.tenant, "policy": chain.policy, **asked.options, "stream": is_live}
        return await self._dispatcher.submit(
            asked.chain(chain.config), asked.messages, call_id=call_id, wait=_ACCEPT, **options
        )

    async def _wait(self, request: Request, awaited: Coroutine[Any, Any, _T]) -> _T | None:
        """What is awaited; None if the client has gone, or must come back because the server stops."""
        result = asyncio.ensure_future(awaited)
        gone, draining = asyncio.ensure_future(_gone(request)), asyncio.ensure_future(self.draining.wait())
        try:
            await asyncio.wait([result, gone, draining], return_when=asyncio.FIRST_COMPLETED)
            return await result if result.done() else None
        finally:
            for task in (result, gone, draining):
                task.cancel()
            await asyncio.gather(result, gone, draining, return_exceptions=True)

    async def _events(
        self, chunks: AsyncIterator[dict[str, Any]], handle: CallHandle, *, keyed: bool
    ) -> AsyncIterator[bytes]:
        """The chunks as events, with comments in silence. A stopping server ends the stream with an error."""
        draining = asyncio.create_task(self.draining.wait())
        following = asyncio.create_task(_next(chunks))
        finished = False
        try:
            while not finished:
                await asyncio.wait([following, draining], timeout=PING_S, return_when=asyncio.FIRST_COMPLETED)
                if following.done():
                    chunk = following.result()
                    finished = chunk is None
                    yield LAST_EVENT if chunk is None else event(chunk)
                    following = asyncio.create_task(_next(chunks))
                elif draining.done():
                    yield event(_described(_STOPS, "server_error", None))
                    return
                else:
                    yield b": ping\n\n"
        finally:
            for task in (following, draining):
                task.cancel()
            await asyncio.gather(following, draining, return_exceptions=True)
            if not finished and not keyed:
                await _cancel_quietly(handle)

    async def _fetch(self, request: Request, caller: Token) -> Response:
        """The answer of a call, if it has ended; else that it runs."""
        handle = self._attached(request, caller)
        status = await handle.status()
        if status.outcome == "running":
            body = {"id": handle.call_id, "object": "chat.completion", "status": "running", "doing": status.activity}
            return JSONResponse(body, 202, {"retry-after": "1", **_headers(handle)})
        result = await handle.result()
        return JSONResponse(completion_of(result, handle.call_id), headers=_headers(handle, result))

    async def _cancel(self, request: Request, caller: Token) -> Response:
        handle = self._attached(request, caller)
        await handle.cancel()
        return JSONResponse({"id": handle.call_id, "object": "chat.completion.deleted", "deleted": True})

    def _attached(self, request: Request, caller: Token) -> CallHandle:
        """The call that the address names, if it is the caller's: others do not exist for it."""
        call_id = str(request.path_params["call_id"])
        if not call_id.startswith(f"{caller.tenant}/"):
            raise RefusedError(404, "there is no such completion", "not_found")
        return self._dispatcher.attach(call_id)

    async def _embed(self, request: Request, caller: Token) -> Response:
        """Vectors. With a key, a second request gets the batches that were answered, and asks for the rest."""
        asked = read_embedding_request(await _body(request))
        chain, key = self._chains.find(asked.model, caller), _key(request)
        options: Any = {"session": caller.tenant, "policy": chain.policy, "dimensions": asked.dimensions}
        call_id = None if key is None else f"{caller.tenant}/{key}"
        found = await self._wait(
            request, self._dispatcher.embed(chain.config, asked.texts, call_id=call_id, **options)
        )  # fmt: skip
        return _come_back() if found is None else JSONResponse(embedding_list(found, as_base64=asked.as_base64))

    async def _list(self, _: Request, caller: Token) -> Response:
        data = [
            {"id": name, "object": "model", "created": 0, "owned_by": "durable-llm"}
            for name in self._chains.names(caller)
        ]
        return JSONResponse({"object": "list", "data": data})

    async def _ready(self, _: Request) -> Response:
        """Whether requests can be accepted: Temporal answers, and the server does not stop."""
        if self.draining.is_set():
            return PlainTextResponse("stopping", 503)
        try:
            async with asyncio.timeout(2.0):
                await self._dispatcher.find("WorkflowId = 'readyz'", limit=1)
        except (DurableLLMError, TimeoutError):
            return PlainTextResponse("Temporal does not answer", 503)
        return PlainTextResponse("ready")


async def _next(chunks: AsyncIterator[dict[str, Any]]) -> dict[str, Any] | None:
    """The next chunk; None after the last one."""
    return await anext(chunks, None)


async def _healthy(_: Request) -> Response:
    return PlainTextResponse("ok")


async def _body(request: Request) -> object:
    try:
        body: object = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise InvalidRequestError("body: not JSON") from None
    return body


def _key(request: Request) -> str | None:
    key = request.headers.get(KEY)
    if key is not None and not key.strip():
        raise RefusedError(400, f"{KEY}: it is empty; send a text of your own, or leave it out")
    return key


async def _gone(request: Request) -> None:
    """Return when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _cancel_quietly(handle: CallHandle) -> None:
    with suppress(DurableLLMError, TimeoutError):
        async with asyncio.timeout(2.0):
            await handle.cancel()


def _headers(handle: CallHandle, result: LLMResult | None = None) -> dict[str, str]:
    """What became of the call, for clients that want to know."""
    told = {"x-durable-llm-call-id": handle.call_id, "idempotent-replayed": "true" if handle.attached else "false"}
    if result is not None:
        told |= {"x-durable-llm-attempts": str(result.attempts_total), "x-durable-llm-model": result.model or ""}
        if result.cost_complete:
            told["x-durable-llm-cost-usd"] = f"{result.total_cost:.9f}"
    return {name: value.encode("latin-1", "replace").decode("latin-1") for name, value in told.items()}


def _failure(error: DurableLLMError) -> Response:
    """The error of a call, in OpenAI's shape. What the call has retried, a client's library must not retry."""
    status, body = chat_error(error)
    if isinstance(error, CallConflictError):
        body["error"]["param"] = ", ".join(error.differing)
    headers = {"x-should-retry": "false"} if isinstance(error, _SETTLED_CALLS) else {}
    if isinstance(error, DispatcherUnavailableError):
        headers["retry-after"] = "1"
    return JSONResponse(body, status, headers)


def _come_back() -> Response:
    """For a client that must send its request again; one that has gone does not read it."""
    return JSONResponse(_described(_STOPS, "server_error", None), 503, {"retry-after": "1"})


def _error(status: int, message: str, kind: str, code: str | None) -> Response:
    return JSONResponse(_described(message, kind, code), status)


def _described(message: str, kind: str, code: str | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "code": code, "param": None}}


async def _http_error(_: Request, error: Exception) -> Response:
    """Starlette's own refusals, such as 404, 405 and 413, in OpenAI's shape."""
    assert isinstance(error, HTTPException)  # noqa: S101  # it is registered for these
    return _error(error.status_code, error.detail, "invalid_request_error", None)
