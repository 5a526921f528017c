"""Responses: answers that are kept, conversations that go on, and answers that nobody waits for.

Nothing of a response is in the front. Its messages and its answer are in the history of its call, so any front can give
it again, and continue its conversation with any model.
"""

import dataclasses
from typing import Any

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from durable_llm.client.handle import CallHandle
from durable_llm.client.tokens import Token
from durable_llm.contract.categories import UNFINISHED
from durable_llm.errors import (
    CallCancelledError,
    CallConflictError,
    CallNotFoundError,
    DispatcherUnavailableError,
    DurableLLMError,
)

from .access import RefusedError
from .front import Front, body_of, headers_of, id_of, key_of, mode_of
from .problems import problem_of
from .wires.responses import PREFIX, Known, ResponsesWire, known_of_call, known_of_request, response_of
from .wires.responses_request import ResponseRequest, next_turn, read_response_request

_PLACE = "/v1/responses"
_ONE = f"{_PLACE}/{{response_id:path}}"
_HEAD_WITHIN_S = 1.0
"""The head of a stream that is read again goes out after this time: the response is there, and may be silent."""


class ResponsesEndpoints:
    """The endpoints of the Responses API."""

    def __init__(self, front: Front) -> None:
        self._front = front

    def routes(self) -> list[Route]:
        """Where they are."""
        on = self._front.endpoint
        return [
            Route(_PLACE, on(self._create), methods=["POST"]),
            Route(f"{_ONE}/cancel", on(self._cancel), methods=["POST"]),
            Route(_ONE, on(self._fetch), methods=["GET"]),
            Route(_ONE, on(self._delete), methods=["DELETE"]),
        ]

    async def _create(self, request: Request, caller: Token) -> Response:
        asked = read_response_request(await body_of(request))
        chain, key = self._front.chains.find(asked.chat.model, caller), key_of(request)
        mode = mode_of(request, chain, stream=asked.chat.stream)
        chat = await self._with_conversation(asked, caller)
        handle = await self._front.submit(chat, chain, id_of(caller, key), caller, is_live=mode == "live")
        known = known_of_request(asked, handle.call_id)
        if asked.background and mode is None:
            return JSONResponse(response_of(known, "in_progress"), headers=headers_of(handle))
        keyed = key is not None or asked.background
        try:
            response = await self._front.answer(request, handle, ResponsesWire(known), stream=mode, keyed=keyed)
        except DurableLLMError:
            if not asked.kept:
                await handle.delete()
            raise
        if not asked.kept:
            response.background = BackgroundTask(handle.delete)  # after it was sent
        return response

    async def _with_conversation(self, asked: ResponseRequest, caller: Token) -> Any:
        """What is asked, after the messages of the response that it follows."""
        if asked.previous is None:
            return asked.chat
        handle = self._handle(asked.previous, caller)
        before, known = await self._read(handle)
        if (await handle.status()).outcome in UNFINISHED:
            raise RefusedError(400, f"previous_response_id: {asked.previous} is not answered yet; wait for it")
        result = await handle.result()
        instructed = known.told["instructions"]
        messages = next_turn(before, result.message(), asked.chat, instructed=instructed)
        return dataclasses.replace(asked.chat, messages=messages)

    async def _fetch(self, request: Request, caller: Token) -> Response:
        """The response as far as it is, or the rest of its stream."""
        handle = self._handle(request.path_params["response_id"], caller)
        _, known = await self._read(handle)
        if request.query_params.get("stream") == "true":
            wire = ResponsesWire(known, _after(request))
            events = wire.live(handle.stream(wire.position))
            return await self._front.streamed(request, events, handle, wire, keyed=True, head_within_s=_HEAD_WITHIN_S)
        return JSONResponse(await self._state(handle, known), headers=headers_of(handle))

    async def _state(self, handle: CallHandle, known: Known) -> dict[str, Any]:
        """The response: running, answered, or ended without an answer."""
        if (await handle.status()).outcome in UNFINISHED:
            return response_of(known, "in_progress")
        try:
            return response_of(known, "completed", await handle.result())
        except CallCancelledError:
            return response_of(known, "cancelled")
        except (DispatcherUnavailableError, CallNotFoundError, CallConflictError):
            raise
        except DurableLLMError as error:
            return response_of(known, "failed", error=problem_of(error))

    async def _cancel(self, request: Request, caller: Token) -> Response:
        """Ask the call to end. The response says so at once, unless it was answered before."""
        handle = self._handle(request.path_params["response_id"], caller)
        _, known = await self._read(handle)
        await handle.cancel()
        state = await self._state(handle, known)
        return JSONResponse({**state, "status": "cancelled"} if state["status"] == "in_progress" else state)

    async def _delete(self, request: Request, caller: Token) -> Response:
        handle = self._handle(request.path_params["response_id"], caller)
        await handle.delete()
        return JSONResponse({"id": PREFIX + handle.call_id, "object": "response", "deleted": True})

    def _handle(self, response_id: str, caller: Token) -> CallHandle:
        return self._front.attached(response_id.removeprefix(PREFIX), caller)

    async def _read(self, handle: CallHandle) -> tuple[list[dict[str, Any]], Known]:
        """The messages of a response, and what is known of it.

        Raises:
            CallNotFoundError: there is no such call.
            RefusedError: it is a chat completion.
        """
        asked = await self._front.dispatcher.asked(handle.call_id)
        known = known_of_call(asked, handle.call_id)
        if known is None:
            raise RefusedError(404, "there is no such response", "not_found")
        return asked.prompt.messages, known


def _after(request: Request) -> int:
    given = request.query_params.get("starting_after", "-1")
    try:
        return int(given)
    except ValueError:
        raise RefusedError(400, "starting_after: expected the number of an event") from None
