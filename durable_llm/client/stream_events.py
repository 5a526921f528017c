"""What a stream tells of a call while it runs."""

from dataclasses import dataclass

from durable_llm.contract.result import LLMResult


@dataclass(frozen=True)
class AttemptStarted:
    """A model is asked.

    Attributes:
        attempt: The attempt's number in the call's ledger.
        model: The model.
    """

    attempt: int
    model: str


@dataclass(frozen=True)
class TextDelta:
    """A piece of the answer's text.

    Attributes:
        attempt: The attempt that it belongs to.
        offset: Characters of the attempt's text before it.
        text: The piece.
    """

    attempt: int
    offset: int
    text: str

    @property
    def position(self) -> tuple[int, int]:
        """Where to go on: the `after` of `CallHandle.stream`."""
        return self.attempt, self.offset + len(self.text)


@dataclass(frozen=True)
class ReasoningDelta:
    """A piece of the model's reasoning; as TextDelta."""

    attempt: int
    offset: int
    text: str


@dataclass(frozen=True)
class ToolCallDelta:
    """A piece of a tool call.

    Attributes:
        attempt: The attempt that it belongs to.
        index: The call's place among the answer's tool calls.
        name: The tool, in the call's first piece.
        arguments: A piece of the arguments' JSON.
    """

    attempt: int
    index: int
    name: str | None
    arguments: str


@dataclass(frozen=True)
class AttemptWithdrawn:
    """What an attempt has sent is not the answer; forget it.

    Attributes:
        attempt: The attempt.
        reason: Why, in words.
        decision: What the call does next, as in the ledger; None where that is not known yet.
    """

    attempt: int
    reason: str
    decision: str | None


@dataclass(frozen=True)
class Waiting:
    """The call waits before the next attempt.

    Attributes:
        delay_s: Seconds of the whole wait.
        reason: Why, in words.
    """

    delay_s: float
    reason: str


@dataclass(frozen=True)
class Done:
    """The last event: the durable answer. Its text is the stream's.

    Attributes:
        result: The result, as `CallHandle.result` returns it.
    """

    result: LLMResult


StreamEvent = AttemptStarted | TextDelta | ReasoningDelta | ToolCallDelta | AttemptWithdrawn | Waiting | Done
