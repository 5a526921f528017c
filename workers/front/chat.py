"""Chat completions, embeddings and models."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from durable_llm.client.openai_chat import completion_of, read_chat_request
from durable_llm.client.openai_embeddings import embedding_list, read_embedding_request
from durable_llm.client.tokens import Token
from durable_llm.contract.categories import UNFINISHED

from .front import Front, body_of, come_back, headers_of, id_of, key_of
from .wires.chat import ChatWire

_PLACE = "/v1/chat/completions"


class ChatEndpoints:
    """The endpoints that answer at once."""

    def __init__(self, front: Front) -> None:
        self._front = front

    def routes(self) -> list[Route]:
        """Where they are."""
        on = self._front.endpoint
        return [
            Route(_PLACE, on(self._create), methods=["POST"]),
            Route(f"{_PLACE}/{{call_id:path}}", on(self._fetch), methods=["GET"]),
            Route(f"{_PLACE}/{{call_id:path}}", on(self._cancel), methods=["DELETE"]),
            Route("/v1/embeddings", on(self._embed), methods=["POST"]),
            Route("/v1/models", on(self._list), methods=["GET"]),
        ]

    async def _create(self, request: Request, caller: Token) -> Response:
        """A completion: the answer of a new call, or of the one that has the key."""
        return await self._front.complete(request, caller, read_chat_request(await body_of(request)), ChatWire)

    async def _fetch(self, request: Request, caller: Token) -> Response:
        """The answer of a call, if it has ended; else that it runs."""
        handle = self._front.attached(request.path_params["call_id"], caller)
        status = await handle.status()
        if status.outcome in UNFINISHED:
            body = {"id": handle.call_id, "object": "chat.completion", "status": "running", "doing": status.activity}
            return JSONResponse(body, 202, {"retry-after": "1", **headers_of(handle)})
        result = await handle.result()
        return JSONResponse(completion_of(result, handle.call_id), headers=headers_of(handle, result))

    async def _cancel(self, request: Request, caller: Token) -> Response:
        handle = self._front.attached(request.path_params["call_id"], caller)
        await handle.cancel()
        return JSONResponse({"id": handle.call_id, "object": "chat.completion.deleted", "deleted": True})

    async def _embed(self, request: Request, caller: Token) -> Response:
        """Vectors. With a key, a second request gets the batches that were answered, and asks for the rest."""
        asked = read_embedding_request(await body_of(request))
        chain, key = self._front.chains.find(asked.model, caller), key_of(request)
        options: Any = {**chain.options_of(caller), "dimensions": asked.dimensions}
        call_id = None if key is None else id_of(caller, key)
        found = await self._front.wait(
            request, self._front.dispatcher.embed(chain.config, asked.texts, call_id=call_id, **options)
        )
        return come_back() if found is None else JSONResponse(embedding_list(found, as_base64=asked.as_base64))

    async def _list(self, _: Request, caller: Token) -> Response:
        names = self._front.chains.names(caller)
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "durable-llm"} for name in names]
        return JSONResponse({"object": "list", "data": data})
