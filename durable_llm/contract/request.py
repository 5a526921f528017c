"""The messages between client, workflow and activity.

A call has two arguments: the request, which the workflow reads, and the prompt, which it never decodes. An attempt gets
an order that says which model to ask and how. It reads the prompt from the call's history; a small prompt travels with
the order instead, as the same payload. A prompt that is too large for Temporal is in a store, and a reference to it
travels in its place.
"""

from datetime import datetime, timedelta
from typing import Annotated, Any, Final

from pydantic import Field

from durable_llm.contract.budgets import BudgetOnWire
from durable_llm.contract.carried import Carried
from durable_llm.contract.config import ModelSpecOnWire
from durable_llm.contract.facts import LocalFault
from durable_llm.contract.ledger import Attempt
from durable_llm.contract.names import (
    BATCH_VERSION,
    BUDGET_VERSION,
    EMBEDDING_VERSION,
    FIRST_SCHEMA_VERSION,
    PARK_VERSION,
    SECOND_SCHEMA_VERSION,
)
from durable_llm.contract.policy import PolicyOnWire
from durable_llm.contract.validation import ValidatorOnWire
from durable_llm.contract.wire import Wire

CHAT: Final = "chat"
EMBEDDINGS: Final = "embeddings"

MAX_INPUT_BYTES: Final = 2_000_000
"""Request and prompt of a run together. Temporal refuses 2 MiB, and encryption adds a little."""

INLINE_PROMPT_BYTES: Final = 4096
"""Prompts up to this size travel with each attempt's order, which is cheaper than reading the history."""

MAX_PROMPT_BYTES: Final = 1_900_000
"""Temporal stores payloads of at most 2 MiB."""

STORED_BYTES: Final = 512 * 1024
"""Prompts and vectors above this size go to the store, if there is one. Temporal warns about larger payloads."""

MAX_STORED_PROMPT_BYTES: Final = 50_000_000
"""The client and each attempt hold a whole prompt in memory."""

MAX_SCHEMA_BYTES: Final = 256_000
"""Each worker compiles a call's schema; ten times this size takes more than ten seconds."""

MAX_REQUEST_BYTES: Final = 64_000
MAX_SPEC_BYTES: Final = 16_000
"""Each attempt's order carries its model's spec; a thousand of them must fit one history."""

MAX_DEADLINE_S: Final = 366 * 86_400.0

DEADLINE_GRACE: Final = timedelta(seconds=60)
"""Temporal ends a run this much after the deadline, if the workflow's own timer cannot. It is the run's timeout, not
the execution's, so that a call whose deadline is extended can continue as new with a later one."""

MAX_ANSWER_BYTES: Final = 1_600_000
"""An answer of this size fits a Temporal payload together with a full ledger."""


class CallRequest(Wire):
    """What the workflow needs to know about a call."""

    schema_version: int = FIRST_SCHEMA_VERSION
    """The oldest version that a worker must know to run this call; see `needed_version`."""
    models: list[ModelSpecOnWire] = Field(min_length=1)
    policy: PolicyOnWire = Field(default_factory=PolicyOnWire)
    deadline_after_s: Annotated[float, Field(gt=0, le=MAX_DEADLINE_S)] | None = None
    """Seconds from the call's first acceptance."""
    deadline_at: datetime | None = None
    """An absolute deadline; one of the two is set."""
    session: str | None = None
    search_attributes: bool = True
    """Whether the namespace has our search attributes. Upserting a missing one would block the call."""
    streams: bool = False
    """Whether attempts publish their answers while they are written."""
    budgets: list[BudgetOnWire] = Field(default_factory=list)
    """What the call's money is taken from."""
    operation: str = CHAT
    """What the models are asked for, in a word of the GenAI conventions: "chat" or "embeddings"."""
    carried: Carried | None = None
    """What the call did before its deadline was extended. None: this is its first run."""


class Prompt(Wire):
    """What the model is asked. Only attempts decode it."""

    messages: list[dict[str, Any]]
    texts: list[str] | None = None
    """Texts to embed, instead of messages to answer."""
    dimensions: int | None = None
    """Length of the vectors to ask for. None: the model's own."""
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    validators: list[ValidatorOnWire] = Field(default_factory=list)
    tool_parser: str | None = None

    @property
    def content(self) -> list[Any]:
        """The caller's own words: messages or texts."""
        return self.messages if self.texts is None else self.texts


def needed_version(
    prompt: Prompt, *, stored: bool, background: bool = False, batch: bool = False, budgets: bool = False,
    parks: bool = False,
) -> int:  # fmt: skip
    """The schema version that a worker must know; an older worker would silently ignore a part of the request.

    Args:
        prompt: What is asked.
        stored: Whether a reference to the store travels in its place.
        background: Whether a model is asked in the background.
        batch: Whether a model is asked in a provider's batch.
        budgets: Whether the call has budgets.
        parks: Whether the policy may park the call.
    """
    if parks:
        return PARK_VERSION
    if budgets:
        return BUDGET_VERSION
    if batch:
        return BATCH_VERSION
    if prompt.texts is not None:
        return EMBEDDING_VERSION
    newer = stored or background or prompt.validators or prompt.tool_parser
    return SECOND_SCHEMA_VERSION if newer else FIRST_SCHEMA_VERSION


class AttemptOrder(Wire):
    """What one attempt does."""

    number: int
    spec: ModelSpecOnWire
    spec_index: int
    try_number: int
    timeout_s: float
    """Seconds that the attempt may take: the spec's timeout or the time until the deadline, whichever is less."""
    previous: Attempt | None = None
    """The ledger entry before this one, so that the history alone holds the whole ledger."""
    resume: str | None = None
    """Id of the background response that a lost attempt started; this attempt follows it and sends no new request."""
    all_messages: bool = False
    """Whether to send every message because the provider no longer has the response to continue from."""
    last_model: bool = False
    """Whether no other model follows in this round."""
    streams: bool = False
    """Whether to publish the answer while it is written."""
    operation: str = CHAT
    """As in the request."""
    budgets: list[BudgetOnWire] = Field(default_factory=list)
    """As in the request."""
    batch: bool = False
    """Whether the provider's Batch API is asked. The attempt ends when the batch has ended."""


class BatchLine(Wire):
    """An attempt that waits for its line of a provider's batch."""

    call_id: str
    run_id: str
    activity_id: str
    order: AttemptOrder
    asked_at: datetime
    window_s: float
    """Seconds that more lines are waited for."""

    @property
    def until(self) -> datetime:
        """When the attempt ends without its line."""
        return self.asked_at + timedelta(seconds=self.order.timeout_s)


class SentBatch(Wire):
    """What became of the request for a batch: its id, or why there is none."""

    batch_id: str | None = None
    fault: LocalFault | str | None = None
    """Why nobody answered; `text` says more."""
    text: str = ""
    status: int = 0
    """HTTP status of a refusal."""
    headers: dict[str, str] = Field(default_factory=dict)
    body: str = ""
