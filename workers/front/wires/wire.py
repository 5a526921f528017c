"""What the front needs of an API: how it writes one call's answer, its stream and its errors."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from durable_llm.client.stream import CallStream
from durable_llm.contract.result import LLMResult


@dataclass(frozen=True)
class Problem:
    """Why a request has no answer.

    Attributes:
        status: Of HTTP.
        message: What is wrong, and what to do.
        kind: The name of the error.
        code: OpenAI's name for it, if it has one.
        param: The part of the request that is wrong.
        call_id: The call, if there is one.
        ended: Whether the call has done what it could, so that the client must not send it again.
        retry_after_s: Seconds after which the client should send the request again. None: it is not asked to.
    """

    status: int
    message: str
    kind: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    call_id: str | None = None
    ended: bool = False
    retry_after_s: int | None = None


class Wire(Protocol):
    """One call, as its API shows it."""

    @property
    def ping(self) -> bytes:
        """What keeps a silent stream open."""
        ...

    def body(self, result: LLMResult) -> dict[str, Any]:
        """The answer as the body of a response."""
        ...

    def live(self, events: CallStream) -> AsyncIterator[bytes]:
        """The answer while it is written.

        Raises:
            DurableLLMError: how the call ended, or WithdrawnError.
        """
        ...

    def whole(self, result: LLMResult) -> Iterator[bytes]:
        """A stream of an answer that is there, with its text in one piece."""
        ...

    def failed(self, problem: Problem) -> bytes:
        """The event that ends a stream without an answer."""
        ...


def named_event(event: Mapping[str, Any]) -> bytes:
    """An event with its type as its name, as Anthropic and OpenAI's Responses write it."""
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def openai_error(problem: Problem) -> dict[str, Any]:
    """The body of an error, in OpenAI's shape."""
    described = {
        "message": problem.message, "type": problem.kind, "code": problem.code, "param": problem.param,
        **({"call_id": problem.call_id} if problem.call_id else {}),
    }  # fmt: skip
    return {"error": described}
