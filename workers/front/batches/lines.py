"""The lines of a batch: one request each, asked as its endpoint would be."""

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from durable_llm.client.checks import check_call_id
from durable_llm.client.dispatcher import Dispatcher
from durable_llm.client.openai_chat import ChatRequest, completion_of, read_chat_request
from durable_llm.client.openai_embeddings import embedding_list, read_embedding_request
from durable_llm.client.tokens import Token
from durable_llm.contract.result import LLMResult
from durable_llm.errors import InvalidRequestError

from ..access import Chain, Chains, RefusedError
from ..wires.checks import object_of, text_of
from ..wires.responses import ResponsesWire, known_of_request
from ..wires.responses_request import read_response_request

_MOST_NAMED: Final = 20
"""Wrong lines that an error names."""

_AFTER_OTHERS: Final = 4
"""A priority; 3 is that of other calls."""

Ask = Callable[[Dispatcher, str, datetime], Awaitable[dict[str, Any]]]
"""Makes the call of a line, of an id and with a deadline, and gives the body of its answer."""


@dataclass(frozen=True)
class Line:
    """One request.

    Attributes:
        custom_id: Its name in the file.
        ask: Makes its call.
    """

    custom_id: str
    ask: Ask


def read_lines(text: str, endpoint: str, chains: Chains, caller: Token) -> list[Line]:
    """The lines of a file.

    Raises:
        InvalidRequestError: some cannot be asked; names the first of them.
    """
    if endpoint not in ENDPOINTS:
        raise InvalidRequestError(f"endpoint: expected one of {', '.join(ENDPOINTS)}")
    lines: list[Line] = []
    wrong: list[str] = []
    seen: set[str] = set()
    for number, written in _numbered(text):
        try:
            line = _line(written, endpoint, chains, caller)
            if line.custom_id in seen:
                raise InvalidRequestError(f"custom_id {line.custom_id[:60]!r} is there twice")
            seen.add(line.custom_id)
            lines.append(line)
        except (InvalidRequestError, RefusedError) as error:
            wrong.append(f"line {number}: {error.message}")
    if wrong or not lines:
        more = f" (and {len(wrong) - _MOST_NAMED} more)" if len(wrong) > _MOST_NAMED else ""
        raise InvalidRequestError("; ".join(wrong[:_MOST_NAMED]) + more or "input_file_id: the file has no lines")
    return lines


def _numbered(text: str) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())


def _line(written: str, endpoint: str, chains: Chains, caller: Token) -> Line:
    try:
        line = object_of("it", json.loads(written))
    except ValueError:
        raise InvalidRequestError("it is not JSON") from None
    custom_id = text_of("custom_id", line.get("custom_id"))
    check_call_id(f"{caller.tenant}/batch_{'0' * 32}/{custom_id}")
    if line.get("method", "POST") != "POST" or line.get("url", endpoint) != endpoint:
        raise InvalidRequestError(f"expected method POST and url {endpoint}")
    return Line(custom_id, ENDPOINTS[endpoint](line.get("body"), chains, caller))


def _chat(body: object, chains: Chains, caller: Token) -> Ask:
    asked = read_chat_request(body)

    async def ask(dispatcher: Dispatcher, call_id: str, deadline: datetime) -> dict[str, Any]:
        return completion_of(await call(dispatcher, call_id, deadline), call_id)

    call = _calling(asked, chains, caller)
    return ask


def _response(body: object, chains: Chains, caller: Token) -> Ask:
    asked = read_response_request(body)
    if asked.previous is not None or asked.background:
        raise InvalidRequestError("body: 'previous_response_id' and 'background' are not for batches")
    call = _calling(asked.chat, chains, caller)

    async def ask(dispatcher: Dispatcher, call_id: str, deadline: datetime) -> dict[str, Any]:
        result = await call(dispatcher, call_id, deadline)
        return ResponsesWire(known_of_request(asked, call_id)).body(result)

    return ask


def _calling(
    asked: ChatRequest, chains: Chains, caller: Token
) -> Callable[[Dispatcher, str, datetime], Awaitable[LLMResult]]:
    if asked.stream:
        raise InvalidRequestError("body: 'stream' is not for batches; leave it out")
    chain = chains.find(asked.model, caller)
    config = asked.chain(chain.config)
    options: Any = {**_options(chain, caller), **asked.options, "if_different": "attach"}

    async def call(dispatcher: Dispatcher, call_id: str, deadline: datetime) -> LLMResult:
        return await dispatcher.call(config, asked.messages, call_id=call_id, deadline=deadline, **options)

    return call


def _embeddings(body: object, chains: Chains, caller: Token) -> Ask:
    asked = read_embedding_request(body)
    chain = chains.find(asked.model, caller)
    options: Any = {**_options(chain, caller), "dimensions": asked.dimensions}

    async def ask(dispatcher: Dispatcher, call_id: str, deadline: datetime) -> dict[str, Any]:
        found = await dispatcher.embed(chain.config, asked.texts, call_id=call_id, deadline=deadline, **options)
        return embedding_list(found, as_base64=asked.as_base64)

    return ask


def _options(chain: Chain, caller: Token) -> dict[str, Any]:
    """A batch can wait: others go first, unless its chain says otherwise."""
    return chain.options_of(caller) | {"priority": chain.priority or _AFTER_OTHERS}


ENDPOINTS: Final[Mapping[str, Callable[[object, Chains, Token], Ask]]] = {
    "/v1/chat/completions": _chat,
    "/v1/embeddings": _embeddings,
    "/v1/responses": _response,
}
"""What the lines of a batch may ask."""
