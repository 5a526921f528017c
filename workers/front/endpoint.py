"""One endpoint: a known caller's request, and its response to the end."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send
from temporalio.client import Client
from temporalio.service import RPCError

from durable_llm.client.connection import translate
from durable_llm.client.tokens import Token
from durable_llm.errors import DurableLLMError

from .access import RefusedError, caller_of
from .ledger import ledger_of, wants_ledger
from .problems import problem_of
from .wires.wire import Problem, openai_error

Handler = Callable[[Request, Token], Awaitable[Response]]
ErrorBody = Callable[[Problem], dict[str, Any]]


class Callers:
    """Who may call, and how many requests each token has open on this front.

    Args:
        tokens: The tokens. None: anybody who reaches this server may call.
        client: Temporal's client, for its errors.
    """

    def __init__(self, tokens: Sequence[Token] | None, client: Client) -> None:
        self._tokens = tokens
        self._open: Counter[str] = Counter()
        self.client = client

    @contextmanager
    def admitted(self, request: Request) -> Iterator[Token]:
        """The caller, who has one more request open.

        Raises:
            RefusedError: nobody knows the token, or it has as many open as it may.
        """
        caller = caller_of(request, self._tokens)
        if caller.max_open is not None and self._open[caller.hash] >= caller.max_open:
            text = f"this token may have {caller.max_open} open requests"
            raise RefusedError(429, text, "rate_limit_exceeded", retry_after_s=1)
        self._open[caller.hash] += 1
        try:
            yield caller
        finally:
            self._open[caller.hash] -= 1


class Endpoint:
    """An ASGI application that answers one kind of request.

    Args:
        handle: Makes the response.
        callers: Who may call.
        error_body: How errors are written.
    """

    def __init__(self, handle: Handler, callers: Callers, error_body: ErrorBody) -> None:
        self._handle = handle
        self._callers = callers
        self._error_body = error_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer. The request is open until the last piece of its response has been sent."""
        request = Request(scope, receive, send)
        try:
            with self._callers.admitted(request) as caller:
                response = await self._response(request, caller)
                await response(scope, receive, send)
        except RefusedError as error:
            await self._failure(request, error)(scope, receive, send)

    async def _response(self, request: Request, caller: Token) -> Response:
        try:
            return await self._handle(request, caller)
        except (RefusedError, DurableLLMError) as error:
            return self._failure(request, error)
        except RPCError as error:
            return self._failure(request, translate(error, self._callers.client))

    def _failure(self, request: Request, error: RefusedError | DurableLLMError) -> Response:
        if isinstance(error, DurableLLMError) and error.attempts and wants_ledger(request):
            return refusal(problem_of(error), self._error_body, durable_llm=ledger_of(error))
        return refusal(problem_of(error), self._error_body)


def refusal(problem: Problem, error_body: ErrorBody = openai_error, **more: Mapping[str, Any]) -> Response:
    """A problem as a response. `more` are further fields of its body."""
    headers = {"x-should-retry": "false"} if problem.ended else {}
    if problem.retry_after_s is not None:
        headers["retry-after"] = str(problem.retry_after_s)
    return JSONResponse({**error_body(problem), **more}, problem.status, headers)
