"""OpenAI's Python client whose chat completions are durable calls, inside this process.

    client = durable_client(job.call, stream=job.stream)
    completion = await client.chat.completions.create(model="openai/gpt-4o-mini", messages=[...])

Everything that takes a client of the package `openai` runs on it, with its own mapping of messages and tools. Nothing
is sent over a network here: the transport of the client makes the calls. Its retries are off, because a call retries.
"""

import importlib
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Final, cast

import openai

from durable_llm.client.new_call import ConfigLike, to_config
from durable_llm.client.openai_chat import ChatRequest, chat_error, completion_of, read_chat_request
from durable_llm.client.openai_stream import LAST_EVENT, event, live_chunks, whole_chunks
from durable_llm.client.stream import CallStream
from durable_llm.contract.config import LLMConfig
from durable_llm.contract.result import LLMResult
from durable_llm.errors import DurableLLMError, InvalidRequestError

# The package `openai` has had two HTTP libraries of the same shape; this is the one of its default client.
_http: Any = importlib.import_module(openai.DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0])

_BASE: Final = "http://durable-llm/v1"
_PATH: Final = "/chat/completions"
_EVENT_STREAM: Final = {"content-type": "text/event-stream"}
_ID: Final = "chatcmpl-durable"
"""The id of a completion whose provider gives none."""

Call = Callable[..., Awaitable[LLMResult]]
"""Makes a call: `job.call`, `dispatcher.call`, or `durable_llm.workflow.call`."""

BlockingCall = Callable[..., LLMResult]
"""Makes a call and waits for it: `job.call` or `dispatcher.call` of `durable_llm.sync`."""

Stream = Callable[..., CallStream]
"""Makes a call whose answer is read while it is written: `job.stream` or `dispatcher.stream`."""


def durable_client(
    call: Call | BlockingCall, config: ConfigLike | None = None, *, stream: Stream | None = None
) -> openai.AsyncOpenAI:
    """A client whose chat completions are made by `call`.

    Args:
        call: Makes the calls.
        config: The models to ask, whatever a request names. None: the model that it names.
        stream: Makes the calls of streamed completions. None: `call` does, and the answer comes in one piece.

    A streamed text is shown while it is written. If its attempt fails, the stream ends with an error, because OpenAI's
    wire cannot withdraw text; the call goes on.
    """
    transport = _Transport(call, stream, None if config is None else to_config(config))
    http_client = _http.AsyncClient(transport=transport, base_url=_BASE)
    client = openai.AsyncOpenAI(api_key="none", base_url=_BASE, http_client=http_client, max_retries=0)
    client._platform = "Unknown"  # asking for it takes a thread, which a workflow does not have
    return client


def blocking_client(call: Call | BlockingCall, config: ConfigLike | None = None) -> openai.OpenAI:
    """The same for programs without asyncio: `call` is of `durable_llm.sync`. Streamed answers come in one piece.

    With an asynchronous `call` its requests are refused.

    Args:
        call: Makes the calls.
        config: The models to ask. None: the model that a request names.
    """
    transport = _BlockingTransport(call, None if config is None else to_config(config))
    http_client = _http.Client(transport=transport, base_url=_BASE)
    return openai.OpenAI(api_key="none", base_url=_BASE, http_client=http_client, max_retries=0)


class _Transport(_http.AsyncBaseTransport):  # type: ignore[misc]  # its library is known at run time only
    def __init__(self, call: Call | BlockingCall, stream: Stream | None, config: LLMConfig | None) -> None:
        self._call = call
        self._stream = stream
        self._config = config

    async def handle_async_request(self, request: Any) -> Any:
        """Answer the client's request by a call."""
        try:
            asked, chain = _asked(request, await request.aread(), self._config)
            if not inspect.iscoroutinefunction(self._call):
                raise InvalidRequestError("call: expected an asynchronous one, such as job.call")
            if asked.stream and self._stream is not None:
                events = self._stream(chain, asked.messages, **asked.options)
                return _streamed(live_chunks(events, asked, _ID))
            result: Any = await cast("Call", self._call)(chain, asked.messages, **asked.options)
        except DurableLLMError as error:
            return _failure(error)
        if asked.stream:
            return _streamed(_each(whole_chunks(result, asked, _ID)))
        return _http.Response(200, json=completion_of(result, result.response_id or _ID))


class _BlockingTransport(_http.BaseTransport):  # type: ignore[misc]  # as above
    def __init__(self, call: Call | BlockingCall, config: LLMConfig | None) -> None:
        self._call = call
        self._config = config

    def handle_request(self, request: Any) -> Any:
        """Answer the client's request by a call."""
        try:
            asked, chain = _asked(request, request.read(), self._config)
            if inspect.iscoroutinefunction(self._call):
                raise InvalidRequestError(
                    "call: an asynchronous one cannot be used here; pass that of durable_llm.sync"
                )
            result: Any = self._call(chain, asked.messages, **asked.options)
        except DurableLLMError as error:
            return _failure(error)
        if not asked.stream:
            return _http.Response(200, json=completion_of(result, result.response_id or _ID))
        events = [event(chunk) for chunk in whole_chunks(result, asked, _ID)]
        return _http.Response(200, headers=_EVENT_STREAM, content=b"".join([*events, LAST_EVENT]))


def _asked(request: Any, content: bytes, config: LLMConfig | None) -> tuple[ChatRequest, LLMConfig]:
    """What a request asks, and of which models.

    Raises:
        InvalidRequestError: it is no chat completion, or it would be refused.
    """
    if not request.url.path.endswith(_PATH):
        raise InvalidRequestError(f"only {_PATH} is a durable call, not {request.url.path}")
    asked = read_chat_request(json.loads(content))
    return asked, asked.chain(config or to_config(asked.model))


def _streamed(chunks: AsyncIterator[dict[str, Any]]) -> Any:
    """Chunks as a response of server-sent events."""
    return _http.Response(200, headers=_EVENT_STREAM, stream=_Events(chunks))


class _Events(_http.AsyncByteStream):  # type: ignore[misc]  # its library is known at run time only
    def __init__(self, chunks: AsyncIterator[dict[str, Any]]) -> None:
        self._chunks = chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._chunks:
                yield event(chunk)
        except DurableLLMError as error:
            yield event(chat_error(error)[1])
        yield LAST_EVENT


async def _each(chunks: Iterator[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    for chunk in chunks:
        yield chunk


def _failure(error: DurableLLMError) -> Any:
    """The error as a response; the client must not retry what the call has retried."""
    status, body = chat_error(error)
    return _http.Response(status, json=body, headers={"x-should-retry": "false"})
