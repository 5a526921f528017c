"""OpenAI's chat completions, https://platform.openai.com/docs/api-reference/chat."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from durable_llm.client.openai_chat import ChatRequest, completion_of
from durable_llm.client.openai_stream import LAST_EVENT, event, live_chunks, whole_chunks
from durable_llm.client.stream import CallStream
from durable_llm.contract.result import LLMResult

from .wire import Problem, openai_error


class ChatWire:
    """A chat completion. Its id is the call's.

    Args:
        asked: What is asked.
        call_id: The call.
    """

    ping: Final = b": ping\n\n"

    def __init__(self, asked: ChatRequest, call_id: str) -> None:
        self._asked = asked
        self._call_id = call_id

    def body(self, result: LLMResult) -> dict[str, Any]:
        """See Wire."""
        return completion_of(result, self._call_id)

    async def live(self, events: CallStream) -> AsyncIterator[bytes]:
        """See Wire."""
        async for chunk in live_chunks(events, self._asked, self._call_id):
            yield event(chunk)
        yield LAST_EVENT

    def whole(self, result: LLMResult) -> Iterator[bytes]:
        """See Wire."""
        yield from map(event, whole_chunks(result, self._asked, self._call_id))
        yield LAST_EVENT

    def failed(self, problem: Problem) -> bytes:
        """See Wire."""
        return event(openai_error(problem))
