"""What a worker publishes of an attempt while its answer is written."""

from typing import Literal

from pydantic import Field

from durable_llm.contract.wire import Wire


class Delta(Wire):
    """A piece of an answer."""

    kind: Literal["text", "reasoning", "tool_call"] | str
    text: str = ""
    """The piece; for a tool call, of its arguments."""
    index: int = 0
    """The tool call's place among the answer's."""
    name: str | None = None
    """The tool's name, in the first piece of its call."""


class Batch(Wire):
    """Pieces that were published together."""

    model: str | None = None
    """The model that is asked; in an attempt's first batch."""
    deltas: list[Delta] = Field(default_factory=list)
    ended: bool = False
    """Whether the attempt has ended without an answer that counts."""
