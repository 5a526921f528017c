"""The front: a request of any API becomes a durable call, and the call's end a response."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from durable_llm.client.checks import fresh_call_id
from durable_llm.client.dispatcher import Dispatcher
from durable_llm.client.handle import CallHandle
from durable_llm.client.openai_chat import ChatRequest
from durable_llm.client.openai_stream import WithdrawnError
from durable_llm.client.tokens import Token
from durable_llm.contract.result import LLMResult
from durable_llm.errors import DurableLLMError, InvalidRequestError

from .access import Chain, Chains, RefusedError
from .endpoint import Callers, Endpoint, ErrorBody, Handler, refusal
from .ledger import ledger_of, wants_ledger
from .problems import STOPS, problem_of
from .wires.wire import Problem, Wire, openai_error

KEY: Final = "idempotency-key"
STREAM_MODE: Final = "x-durable-llm-stream"
PING_S: Final = 15.0
"""Seconds of silence in a stream after which something is sent, so that proxies keep the connection."""

BODY_S: Final = 60.0
"""Seconds that a client has to send its body."""

_ACCEPT: Final = timedelta(seconds=10)
"""How long Temporal may take to accept a call."""

_T = TypeVar("_T")


class Front:
    """What the endpoints of all APIs share.

    Args:
        dispatcher: Makes the calls.
        chains: What stands behind the names of models.
        tokens: Who may call. None: anybody who reaches this server.

    Attributes:
        dispatcher: As above.
        chains: As above.
        draining: Set when the server is to stop: open requests are answered with 503 and Retry-After.
    """

    def __init__(self, dispatcher: Dispatcher, chains: Chains, tokens: Sequence[Token] | None) -> None:
        self.dispatcher = dispatcher
        self.chains = chains
        self._callers = Callers(tokens, dispatcher.client)
        self.draining = asyncio.Event()

    def endpoint(self, handle: Handler, error_body: ErrorBody = openai_error) -> Endpoint:
        """`handle` for known callers, with its errors as responses."""
        return Endpoint(handle, self._callers, error_body)

    async def submit(
        self, asked: ChatRequest, chain: Chain, call_id: str, caller: Token, *, is_live: bool = False
    ) -> CallHandle:
        """Start the call, or attach to the one of this id."""
        options: Any = {**chain.options_of(caller), **asked.options, "stream": is_live}
        return await self.dispatcher.submit(
            asked.chain(chain.config), asked.messages, call_id=call_id, wait=_ACCEPT, **options
        )

    async def complete(
        self, request: Request, caller: Token, asked: ChatRequest, make_wire: Callable[[ChatRequest, str], Wire]
    ) -> Response:
        """The response of a new call for what is asked, or of the call that has the request's key.

        Args:
            request: The client's.
            caller: The client.
            asked: What it asks.
            make_wire: Makes how the call is written, of what is asked and of the call's id.
        """
        chain, key = self.chains.find(asked.model, caller), key_of(request)
        mode = mode_of(request, chain, stream=asked.stream)
        handle = await self.submit(asked, chain, id_of(caller, key), caller, is_live=mode == "live")
        return await self.answer(request, handle, make_wire(asked, handle.call_id), stream=mode, keyed=key is not None)

    async def answer(
        self, request: Request, handle: CallHandle, wire: Wire, *, stream: str | None, keyed: bool
    ) -> Response:
        """The response of a call, as soon as there is something to say.

        Args:
            request: The client's.
            handle: The call.
            wire: How it is written.
            stream: None: as one body. Else `live` or `settled`.
            keyed: Whether the client can ask for the call again. Otherwise it is cancelled when the client leaves.
        """
        if stream is not None:
            events = wire.live(handle.stream()) if stream == "live" else _settled(wire, handle)
            return await self.streamed(request, events, handle, wire, keyed=keyed)
        result = await self.wait(request, handle.result())
        if result is None:
            if not keyed:
                await _cancel_quietly(handle)
            return come_back()
        body = wire.body(result)
        if wants_ledger(request):
            body["durable_llm"] = ledger_of(result)
        return JSONResponse(body, headers=headers_of(handle, result))

    async def wait(self, request: Request, awaited: Coroutine[Any, Any, _T]) -> _T | None:
        """What is awaited; None if the client has gone, or must come back because the server stops."""
        result = asyncio.ensure_future(awaited)
        try:
            await self._until(request, result)
            return await result if result.done() else None
        finally:
            result.cancel()
            await asyncio.gather(result, return_exceptions=True)

    async def _until(self, request: Request, future: "asyncio.Future[Any]", timeout: float | None = None) -> bool:  # noqa: ASYNC109  # as asyncio.wait
        """Wait for `future`, unless the client goes, the server stops or time is up. Whether somebody still waits."""
        gone, draining = asyncio.ensure_future(_gone(request)), asyncio.ensure_future(self.draining.wait())
        try:
            waited: list[asyncio.Future[Any]] = [future, gone, draining]
            await asyncio.wait(waited, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            return not gone.done() and not draining.done()
        finally:
            gone.cancel()
            draining.cancel()
            await asyncio.gather(gone, draining, return_exceptions=True)

    async def streamed(
        self, request: Request, events: AsyncIterator[bytes], handle: CallHandle, wire: Wire, *, keyed: bool,
        head_within_s: float = PING_S,
    ) -> Response:  # fmt: skip
        """A response of events. An error before its head is sent has a status of its own.

        Args:
            request: The client's.
            events: What is sent.
            handle: The call.
            wire: How it is written.
            keyed: Whether the client can ask for the call again. Otherwise it is cancelled when the client leaves.
            head_within_s: Seconds to wait for the first event before the head is sent without it.

        Raises:
            DurableLLMError: the call has failed by then.
        """
        first = asyncio.ensure_future(_next(events))
        waited = await self._until(request, first, head_within_s)
        if first.done() and (error := first.exception()) is not None and not isinstance(error, WithdrawnError):
            raise error
        if not waited and not first.done():
            first.cancel()
            if not keyed:
                await _cancel_quietly(handle)
            return come_back()
        return StreamingResponse(
            self._events(first, events, handle, wire, keyed=keyed),
            headers={**headers_of(handle), "cache-control": "no-cache"}, media_type="text/event-stream",
        )  # fmt: skip

    async def _events(
        self, following: "asyncio.Future[bytes | None]", events: AsyncIterator[bytes], handle: CallHandle, wire: Wire,
        *, keyed: bool,
    ) -> AsyncIterator[bytes]:  # fmt: skip
        """The events, with pings in silence. An error, also that the server stops, is the last event."""
        draining = asyncio.ensure_future(self.draining.wait())
        finished = False
        try:
            while not finished:
                awaited: list[asyncio.Future[Any]] = [following, draining]
                await asyncio.wait(awaited, timeout=PING_S, return_when=asyncio.FIRST_COMPLETED)
                if following.done():
                    finished = following.result() is None
                    yield following.result() or b""
                    following = asyncio.ensure_future(_next(events))
                elif draining.done():
                    yield wire.failed(Problem(503, STOPS, "server_error"))
                    return
                else:
                    yield wire.ping
        except DurableLLMError as error:
            finished = True
            yield wire.failed(problem_of(error))
        finally:
            for task in (following, draining):
                task.cancel()
            await asyncio.gather(following, draining, return_exceptions=True)
            if not finished and not keyed:
                await _cancel_quietly(handle)

    def attached(self, call_id: str, caller: Token) -> CallHandle:
        """The call of this id, if it is the caller's: others do not exist for it.

        Raises:
            RefusedError: it is not.
        """
        if not call_id.startswith(f"{caller.tenant}/"):
            raise RefusedError(404, "there is no such answer", "not_found")
        return self.dispatcher.attach(call_id)


def mode_of(request: Request, chain: Chain, *, stream: bool) -> str | None:
    """How an answer is streamed: by the request's header, or as the chain says. None: it is not.

    Raises:
        RefusedError: the header says something else.
    """
    mode = request.headers.get(STREAM_MODE, chain.stream)
    if mode not in ("live", "settled"):
        raise RefusedError(400, f"{STREAM_MODE}: expected live or settled")
    return mode if stream else None


def key_of(request: Request) -> str | None:
    """The client's key; None if it has none.

    Raises:
        RefusedError: it is empty.
    """
    key = request.headers.get(KEY)
    if key is not None and not key.strip():
        raise RefusedError(400, f"{KEY}: it is empty; send a text of your own, or leave it out")
    return key


def id_of(caller: Token, key: str | None) -> str:
    """The id of a caller's call."""
    return f"{caller.tenant}/{key or fresh_call_id()}"


async def body_of(request: Request) -> object:
    """The request's body.

    Raises:
        RefusedError: it does not come.
        InvalidRequestError: it is not JSON.
    """
    try:
        async with asyncio.timeout(BODY_S):
            content = await request.body()
    except TimeoutError:
        raise RefusedError(408, f"the body has not come within {BODY_S:g} s") from None
    try:
        body: object = json.loads(content)
    except (ValueError, RecursionError):
        raise InvalidRequestError("body: not JSON") from None
    return body


def headers_of(handle: CallHandle, result: LLMResult | None = None) -> dict[str, str]:
    """What became of the call, for clients that want to know."""
    told = {"x-durable-llm-call-id": handle.call_id, "idempotent-replayed": "true" if handle.attached else "false"}
    if result is not None:
        told |= {"x-durable-llm-attempts": str(result.attempts_total), "x-durable-llm-model": result.model or ""}
        if result.cost_complete:
            told["x-durable-llm-cost-usd"] = f"{result.total_cost:.9f}"
    return {name: value.encode("latin-1", "replace").decode("latin-1") for name, value in told.items()}


def come_back() -> Response:
    """For a client that must send its request again; one that has gone does not read it."""
    return refusal(Problem(503, STOPS, "server_error", retry_after_s=1))


async def _settled(wire: Wire, handle: CallHandle) -> AsyncIterator[bytes]:
    for event in wire.whole(await handle.result()):
        yield event


async def _next(events: AsyncIterator[bytes]) -> bytes | None:
    """The next event; None after the last one."""
    return await anext(events, None)


async def _gone(request: Request) -> None:
    """Return when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _cancel_quietly(handle: CallHandle) -> None:
    """Cancel a call that nobody can ask for again."""
    with suppress(DurableLLMError, TimeoutError):
        async with asyncio.timeout(2.0):
            await handle.cancel()
