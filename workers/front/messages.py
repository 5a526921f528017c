"""Anthropic's messages, for its own clients."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from durable_llm.client.tokens import Token

from .front import Front, body_of, id_of, key_of, mode_of
from .wires.messages import MessagesWire, anthropic_error
from .wires.messages_request import read_messages_request


class MessagesEndpoints:
    """The endpoint of the Messages API."""

    def __init__(self, front: Front) -> None:
        self._front = front

    def routes(self) -> list[Route]:
        """Where it is."""
        return [Route("/v1/messages", self._front.endpoint(self._create, anthropic_error), methods=["POST"])]

    async def _create(self, request: Request, caller: Token) -> Response:
        asked = read_messages_request(await body_of(request))
        chain, key = self._front.chains.find(asked.model, caller), key_of(request)
        mode = mode_of(request, chain, stream=asked.stream)
        handle = await self._front.submit(asked, chain, id_of(caller, key), caller, is_live=mode == "live")
        wire = MessagesWire(asked, handle.call_id)
        return await self._front.answer(request, handle, wire, stream=mode, keyed=key is not None)
