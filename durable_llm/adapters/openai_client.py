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
from durable_llm.client.openai_chat import ChatRequest, chat_chunk, chat_completion, chat_error, read_chat_request
from durable_llm.client.stream import CallStream
from durable_llm.client.stream_events import AttemptWithdrawn, Done, ReasoningDelta, TextDelta
from durable_llm.contract.config import LLMConfig
from durable_llm.contract.result import LLMResult
from durable_llm.errors import DurableLLMError, InvalidRequestError

# The package `openai` has had two HTTP libraries of the same shape; this is the one of its default client.
_http: Any = importlib.import_module(openai.DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0])

_BASE: Final = "http://durable-llm/v1"
_PATH: Final = "/chat/completions"
_EVENT_STREAM: Final = {"content-type": "text/event-stream"}
_LAST_EVENT: Final = b"data: [DONE]\n\n"

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
            body, asked, chain = _asked(request, await request.aread(), self._config)
            if not inspect.iscoroutinefunction(self._call):
                raise InvalidRequestError("call: expected an asynchronous one, such as job.call")
            if asked.stream and self._stream is not None:
                events = self._stream(chain, asked.messages, **asked.options)
                return _streamed(_pieces(events, asked.model, wants_usage=_wants_usage(body)))
            result: Any = await cast("Call", self._call)(chain, asked.messages, **asked.options)
        except DurableLLMError as error:
            return _failure(error)
        if asked.stream:
            return _streamed(_each(_whole(result, wants_usage=_wants_usage(body))))
        return _http.Response(200, json=_completion(result))


class _BlockingTransport(_http.BaseTransport):  # type: ignore[misc]  # as above
    def __init__(self, call: Call | BlockingCall, config: LLMConfig | None) -> None:
        self._call = call
        self._config = config

    def handle_request(self, request: Any) -> Any:
        """Answer the client's request by a call."""
        try:
            body, asked, chain = _asked(request, request.read(), self._config)
            if inspect.iscoroutinefunction(self._call):
                raise InvalidRequestError(
                    "call: an asynchronous one cannot be used here; pass that of durable_llm.sync"
                )
            result: Any = self._call(chain, asked.messages, **asked.options)
        except DurableLLMError as error:
            return _failure(error)
        if not asked.stream:
            return _http.Response(200, json=_completion(result))
        events = [_event(chunk) for chunk in _whole(result, wants_usage=_wants_usage(body))]
        return _http.Response(200, headers=_EVENT_STREAM, content=b"".join([*events, _LAST_EVENT]))


def _asked(request: Any, content: bytes, config: LLMConfig | None) -> tuple[dict[str, Any], ChatRequest, LLMConfig]:
    """The body of a request, what it asks, and of which models.

    Raises:
        InvalidRequestError: it is no chat completion, or it would be refused.
    """
    if not request.url.path.endswith(_PATH):
        raise InvalidRequestError(f"only {_PATH} is a durable call, not {request.url.path}")
    body = json.loads(content)
    asked = read_chat_request(body)
    return body, asked, asked.chain(config or to_config(asked.model))


def _completion(result: LLMResult) -> dict[str, Any]:
    last = result.attempts[-1] if result.attempts else None
    created = int(last.started_at.timestamp()) if last and last.started_at else 0
    return chat_completion(result, completion_id=result.response_id or "chatcmpl-durable", created=created)


def _wants_usage(body: dict[str, Any]) -> bool:
    return bool((body.get("stream_options") or {}).get("include_usage"))


def _streamed(chunks: AsyncIterator[dict[str, Any]]) -> Any:
    """Chunks as a response of server-sent events."""
    return _http.Response(200, headers=_EVENT_STREAM, stream=_Events(chunks))


class _Events(_http.AsyncByteStream):  # type: ignore[misc]  # its library is known at run time only
    def __init__(self, chunks: AsyncIterator[dict[str, Any]]) -> None:
        self._chunks = chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._chunks:
            yield _event(chunk)
        yield _LAST_EVENT


def _event(chunk: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(chunk)}\n\n".encode()


async def _each(chunks: Iterator[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    for chunk in chunks:
        yield chunk


async def _pieces(events: CallStream, model: str, *, wants_usage: bool) -> AsyncIterator[dict[str, Any]]:
    """The chunks of a call whose answer is written meanwhile."""
    begun = {"id": "chatcmpl-durable", "created": 0, "model": model}
    shown = False
    try:
        async for event in events:
            match event:
                case TextDelta():
                    shown = True
                    yield chat_chunk(begun, {"role": "assistant", "content": event.text})
                case ReasoningDelta():
                    yield chat_chunk(begun, {"role": "assistant", "reasoning_content": event.text})
                case AttemptWithdrawn() if shown:
                    text = f"the text so far is withdrawn ({event.reason}); the call goes on, ask for it again"
                    yield {"error": {"message": text, "type": type(event).__name__, "code": None}}
                    return
                case Done():
                    for chunk in _last_chunks(event.result, wants_usage=wants_usage):
                        yield chunk
    except DurableLLMError as error:
        yield chat_error(error)[1]


def _whole(result: LLMResult, *, wants_usage: bool) -> Iterator[dict[str, Any]]:
    """The chunks of an answer that is there."""
    completion = _completion(result)
    for choice in completion["choices"]:
        yield chat_chunk(
            completion, {"role": "assistant", "content": choice["message"]["content"]}, index=choice["index"]
        )
    yield from _last_chunks(result, wants_usage=wants_usage)


def _last_chunks(result: LLMResult, *, wants_usage: bool) -> Iterator[dict[str, Any]]:
    """Tool calls, why each choice ends, and the usage where it is wanted."""
    completion = _completion(result)
    for choice in completion["choices"]:
        calls = [{"index": place, **call} for place, call in enumerate(choice["message"].get("tool_calls", ()))]
        delta = {"tool_calls": calls} if calls else {}
        yield chat_chunk(completion, delta, index=choice["index"], finish_reason=choice["finish_reason"])
    if wants_usage:
        yield {**chat_chunk(completion, {}), "choices": [], "usage": completion["usage"]}


def _failure(error: DurableLLMError) -> Any:
    """The error as a response; the client must not retry what the call has retried."""
    status, body = chat_error(error)
    return _http.Response(status, json=body, headers={"x-should-retry": "false"})
