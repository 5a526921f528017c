"""The application: all endpoints, and what operators ask of the process."""

import asyncio

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from durable_llm.errors import DurableLLMError

from .batches.endpoints import BatchEndpoints
from .chat import ChatEndpoints
from .endpoint import refusal
from .front import Front
from .messages import MessagesEndpoints
from .metrics import CountRequests, Metrics
from .responses import ResponsesEndpoints
from .wires.wire import Problem

_READY_S = 2.0


def make_app(front: Front, batches: BatchEndpoints, max_body_bytes: int) -> ASGIApp:
    """The endpoints of a front."""
    metrics = Metrics()

    async def measured(_: Request) -> Response:
        return metrics.response()

    async def ready(_: Request) -> Response:
        """Whether requests can be accepted: Temporal answers, and the server does not stop."""
        if front.draining.is_set():
            return PlainTextResponse("stopping", 503)
        try:
            async with asyncio.timeout(_READY_S):
                await front.dispatcher.find("WorkflowId = 'readyz'", limit=1)
        except (DurableLLMError, TimeoutError):
            return PlainTextResponse("Temporal does not answer", 503)
        return PlainTextResponse("ready")

    app = Starlette(
        routes=[
            *ChatEndpoints(front).routes(),
            *ResponsesEndpoints(front).routes(),
            *MessagesEndpoints(front).routes(),
            *batches.routes(),
            Route("/healthz", _healthy, methods=["GET"]),
            Route("/readyz", ready, methods=["GET"]),
            Route("/metrics", measured, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _http_error},
        max_body_size=max_body_bytes,
    )
    return CountRequests(app, metrics)


async def _healthy(_: Request) -> Response:
    return PlainTextResponse("ok")


async def _http_error(_: Request, error: Exception) -> Response:
    """Starlette's own refusals, such as 404, 405 and 413, in OpenAI's shape."""
    assert isinstance(error, HTTPException)  # noqa: S101  # it is registered for these
    return refusal(Problem(error.status_code, error.detail))
