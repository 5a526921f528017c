"""The messages between client, workflow and activity.

A call has two arguments: the request, which the workflow reads, and the prompt, which it never decodes. An attempt gets
an order that names what to ask; the prompt it reads from the call's own history, or, when it is small, from a second
argument that carries the very same payload. A prompt that is too large for Temporal lies in a store; the second
argument is then a reference to it.
"""

from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import Field

from durable_llm.contract.config import ModelSpecOnWire
from durable_llm.contract.ledger import Attempt
from durable_llm.contract.names import FIRST_SCHEMA_VERSION, SCHEMA_VERSION
from durable_llm.contract.policy import PolicyOnWire
from durable_llm.contract.validation import ValidatorOnWire
from durable_llm.contract.wire import Wire

INLINE_PROMPT_BYTES: Final = 4096
"""Prompts up to this size travel with each attempt's order: cheaper than a read of the history."""

MAX_PROMPT_BYTES: Final = 1_900_000
"""Temporal stores payloads of at most 2 MiB."""

STORED_PROMPT_BYTES: Final = 512 * 1024
"""Prompts above this size go to the store where there is one: from here on Temporal warns of them."""

MAX_STORED_PROMPT_BYTES: Final = 50_000_000
"""A prompt is held in memory whole, by the client and by each attempt."""

MAX_SCHEMA_BYTES: Final = 256_000
"""Each worker compiles a call's schema; ten times this would take it ten seconds and more."""

MAX_REQUEST_BYTES: Final = 64_000
MAX_SPEC_BYTES: Final = 16_000
"""Each attempt's order carries its model's spec; a thousand of them must fit one history."""

MAX_DEADLINE_S: Final = 366 * 86_400.0
MAX_ANSWER_BYTES: Final = 1_600_000
"""With a full ledger beside it, an answer of this size still fits a Temporal payload."""


class CallRequest(Wire):
    """What the workflow needs to know of a call."""

    schema_version: int = FIRST_SCHEMA_VERSION
    """The version that a worker must know to run this; see `needed_version`."""
    models: list[ModelSpecOnWire] = Field(min_length=1)
    policy: PolicyOnWire = Field(default_factory=PolicyOnWire)
    deadline_after_s: Annotated[float, Field(gt=0, le=MAX_DEADLINE_S)] | None = None
    """Seconds from the call's first acceptance."""
    deadline_at: datetime | None = None
    """An absolute deadline; one of the two is set."""
    session: str | None = None
    search_attributes: bool = True
    """Whether the namespace has our search attributes; upserting a missing one would leave the call stuck."""


class Prompt(Wire):
    """What the model is asked. Only attempts decode it."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    validators: list[ValidatorOnWire] = Field(default_factory=list)
    tool_parser: str | None = None


def needed_version(prompt: Prompt, *, stored: bool, background: bool = False) -> int:
    """The schema version that a worker must know, or it would ignore a part of the request in silence.

    Args:
        prompt: What is asked.
        stored: Whether a reference to the store travels in its place.
        background: Whether a model is asked in the background.
    """
    newer = stored or background or prompt.validators or prompt.tool_parser
    return SCHEMA_VERSION if newer else FIRST_SCHEMA_VERSION


class PromptReference(Wire):
    """Where a prompt is that is too large for Temporal: the content of this name in the store.

    The content is a Temporal payload in its serialized form, as it would have stood in the history: encrypted, where
    the client's data converter encrypts.
    """

    sha256: str
    """Of the content, in 64 hexadecimal digits: its name."""
    size: int
    """Bytes of the content."""


class AttemptOrder(Wire):
    """What one attempt is to do."""

    number: int
    spec: ModelSpecOnWire
    spec_index: int
    try_number: int
    timeout_s: float
    """Seconds that the attempt may take: the spec's timeout, or what is left until the deadline."""
    previous: Attempt | None = None
    """The ledger entry before this one, so that the history alone tells the whole story."""
    resume: str | None = None
    """Id of the background response that a lost attempt began: it is followed, and nothing is asked anew."""
    all_messages: bool = False
    """Whether every message is sent, since the provider no longer has the response that they could go on from."""
