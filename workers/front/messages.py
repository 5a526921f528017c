"""Anthropic's messages, for its own clients."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from durable_llm.client.tokens import Token

from .front import Front, body_of
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
        return await self._front.complete(request, caller, read_messages_request(await body_of(request)), MessagesWire)
