"""The messages between client, workflow and activity.

A call has two arguments: the request, which the workflow reads, and the prompt, which it never decodes. An attempt gets
an order that names what to ask; the prompt it reads from the call's own history, or, when it is small, from a second
argument that carries the very same payload.
"""

from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import Field

from durable_llm.attempt import Attempt
from durable_llm.config import ModelSpecOnWire
from durable_llm.names import SCHEMA_VERSION
from durable_llm.policy import PolicyOnWire
from durable_llm.wire import Wire

INLINE_PROMPT_BYTES: Final = 4096
"""Prompts up to this size travel with each attempt's order: cheaper than a read of the history."""

MAX_PROMPT_BYTES: Final = 1_900_000
"""Temporal stores payloads of at most 2 MiB."""

MAX_REQUEST_BYTES: Final = 64_000
MAX_SPEC_BYTES: Final = 16_000
"""Each attempt's order carries its model's spec; a thousand of them must fit one history."""

MAX_DEADLINE_S: Final = 366 * 86_400.0
MAX_ANSWER_BYTES: Final = 1_600_000
"""With a full ledger beside it, an answer of this size still fits a Temporal payload."""


class CallRequest(Wire):
    """What the workflow needs to know of a call."""

    schema_version: int = SCHEMA_VERSION
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
