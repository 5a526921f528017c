"""What an attempt saw: facts, not verdicts.

The activity reads them, the workflow classifies them. They are stored in the history as an attempt's failure details,
so a later policy can be asked what it would have done.
"""

from enum import StrEnum
from typing import Any, Final

from pydantic import Field

from durable_llm.contract.categories import Outcome
from durable_llm.contract.ledger import Usage
from durable_llm.contract.result import Answer
from durable_llm.contract.wire import Wire

SERVED_AFTER_S: Final = 1.0
"""Seconds after which a lost connection may have cost something: the provider had time to serve the request."""

TEXT_LIMIT: Final = 2000
"""Characters of a provider's text that facts keep."""


class Sent(StrEnum):
    """Whether the request left this machine. A request that was sent may have been billed."""

    NO = "no"
    YES = "yes"
    UNKNOWN = "unknown"


class LocalFault(StrEnum):
    """What went wrong on our own side, before or instead of a response."""

    MISSING_KEY = "missing_key"
    KEY_NOT_ALLOWED = "key_not_allowed"
    ADDRESS_NOT_ALLOWED = "address_not_allowed"
    PARAMETER_NOT_ALLOWED = "parameter_not_allowed"
    UNKNOWN_PROVIDER = "unknown_provider"
    MISSING_PACKAGE = "missing_package"
    UNSUPPORTED = "unsupported"
    """The model or provider cannot do what the spec asks of it."""
    PROMPT_UNREADABLE = "prompt_unreadable"
    UNDECODABLE = "undecodable"
    """The prompt is not one: a client of another kind or version wrote it."""
    STORE_UNAVAILABLE = "store_unavailable"
    """The store that holds the call's large prompt did not answer."""
    REQUEST_NOT_BUILT = "request_not_built"
    """litellm raised before anything was sent, for another reason than those above."""
    INVALID_SCHEMA = "invalid_schema"
    """The schema that the answer should follow is not a valid schema."""
    UNKNOWN_VALIDATOR = "unknown_validator"
    """The worker does not have this validator or tool parser, or it does not take these parameters."""
    BROKEN_VALIDATOR = "broken_validator"
    """A validator or tool parser failed instead of accepting or rejecting the answer."""
    TIMEOUT = "timeout"
    """The attempt's own deadline passed."""
    CONNECT = "connect"
    """No connection could be made."""
    DISCONNECTED = "disconnected"
    """The connection broke after the request had been sent."""
    DRAINED = "drained"
    """The worker was shut down while the request was open."""
    LOST = "lost"
    """The worker died or could not be reached: heartbeats stopped."""
    BUDGET_SPENT = "budget_spent"
    """The call's budget has no room for the request."""
    BUDGET_WAITS = "budget_waits"
    """The same, and the call waits until its budget wakes it."""
    HELD = "held"
    """An operator holds the account or the model, and the call waits until it is released."""
    UNDECIPHERED = "undeciphered"
    """The worker lacks the key with which its order or the prompt is encrypted."""


class AnswerDefect(StrEnum):
    """Why an HTTP 200 is not an answer."""

    EMPTY = "empty"
    CUT = "cut"
    """The answer or its stream stopped without an end marker."""
    FORGOTTEN = "forgotten"
    """The server ignored `previous_response_id` and answered without the conversation."""
    UNREADABLE = "unreadable"
    """A body that this API does not send: not JSON, HTML, nothing."""
    OUT_OF_WINDOW = "out_of_window"
    """The context window ended the answer in its middle."""
    UNFINISHED = "unfinished"
    """The provider paused its turn and expects a request to go on."""
    REFUSAL = "refusal"
    CONTENT_FILTER = "content_filter"
    LENGTH = "length"
    """The token budget was spent without any text."""
    INVALID_TOOL_ARGUMENTS = "invalid_tool_arguments"
    TOO_FEW = "too_few"
    """One choice although `n` asked for several: the provider accepts the parameter and ignores it."""
    UNKNOWN_TOOL = "unknown_tool"
    """A tool call to a tool that the request does not have."""
    NO_TOOL_CALL = "no_tool_call"
    """The request required a tool call, and there is none."""
    NOT_THE_SCHEMA = "not_the_schema"
    """The text is not JSON, or does not follow the schema of the request."""
    WRONG_VECTORS = "wrong_vectors"
    """Not one vector of the right length for each text."""
    REJECTED = "rejected"
    """A validator or tool parser rejected it."""
    ERROR_BODY = "error_body"
    """An error object in a successful response; `http_status` is then the status in that object, if any."""


_RESPONSE_MAY_CONTINUE: Final = frozenset(
    {LocalFault.LOST, LocalFault.DRAINED, LocalFault.UNDECIPHERED, LocalFault.STORE_UNAVAILABLE}
)
"""Faults of a worker that was lost or could not ask; the provider keeps working on a background response."""


class FailureFacts(Wire):
    """Everything that is known about a failed attempt."""

    http_status: int | None = None
    """Status on the wire, or the status in an error body inside a 200."""
    error_code: str | None = None
    error_type: str | None = None
    error_param: str | None = None
    error_details: list[str] = Field(default_factory=list)
    """Structured fields beyond code and type: Google's reason, quota id and limit, OpenRouter's limit source, ..."""
    text: str = ""
    """The provider's message, without keys and without prompt text, at most TEXT_LIMIT characters."""
    exception: str | None = None
    """Class name of the exception that litellm raised."""
    local_fault: LocalFault | str | None = None
    answer_defect: AnswerDefect | str | None = None
    finish_reason: str | None = None
    """The provider's own finish reason, where an answer had one."""
    retry_after_s: float | None = None
    """Seconds that the provider asked to wait."""
    retry_after_source: str | None = None
    """Where it asked for that: a header's name, a body field, or "text"."""
    delay_headers: dict[str, str] = Field(default_factory=dict)
    """The raw headers about waiting."""
    should_retry: bool | None = None
    """The provider's x-should-retry header."""
    request_id: str | None = None
    request_sent: Sent | str = Sent.UNKNOWN
    duration_s: float | None = None
    model: str | None = None
    usage: Usage | None = None
    cost: float | None = None
    """USD of a rejected answer; None when unknown."""
    answer: Answer | None = None
    """The paid answer that a broken validator could not check."""
    response_id: str | None = None
    """Id of the background response that the attempt followed."""
    quota: str | None = None
    """The quota that the attempt came through."""
    waited_s: float | None = None
    """Seconds that it waited there."""

    @property
    def resumable(self) -> str | None:
        """Id of the background response that continues although its attempt ended; another attempt can follow it."""
        return self.response_id if self.local_fault in _RESPONSE_MAY_CONTINUE else None

    @property
    def lacks_previous_response(self) -> bool:
        """Whether the provider no longer has the response named by `previous_response_id`, or ignores it."""
        named = self.error_code == "previous_response_not_found" or self.error_param == "previous_response_id"
        return (named and self.http_status in (400, 404)) or self.answer_defect == AnswerDefect.FORGOTTEN

    @property
    def lost_late(self) -> bool:
        """Whether the connection ended so late after the request that the provider may have served it."""
        served = self.request_sent != Sent.NO and (self.duration_s or 0.0) >= SERVED_AFTER_S
        return self.local_fault == LocalFault.DISCONNECTED and served

    @property
    def outcome(self) -> Outcome:
        """FAILED, or UNKNOWN if a request may have been served and nobody saw its end."""
        unseen = self.local_fault in (LocalFault.LOST, LocalFault.DRAINED, LocalFault.TIMEOUT) or self.lost_late
        return Outcome.UNKNOWN if unseen and self.request_sent != Sent.NO else Outcome.FAILED

    @property
    def billed(self) -> float | None:
        """USD that the attempt cost; None when nobody knows.

        Nothing was billed when nothing was sent, or when the provider refused with an HTTP error. A rejected answer has
        its own cost. A background response is billed even if polling it failed. Everything else is unknown.
        """
        if self.request_sent == Sent.NO and self.response_id is None:
            return 0.0
        rejected = self.answer_defect not in (None, AnswerDefect.ERROR_BODY)
        if rejected or self.answer is not None or self.response_id is not None:
            return self.cost
        return 0.0 if self.http_status is not None and self.http_status >= 400 else None

    def entry_fields(self) -> dict[str, Any]:
        """What the ledger entry of the failed attempt takes from its facts."""
        return {
            "outcome": self.outcome, "http_status": self.http_status, "error_code": self.error_code,
            "message": self.headline(), "duration_s": self.duration_s, "request_id": self.request_id,
            "response_id": self.response_id, "usage": self.usage, "cost": self.billed,
            "quota": self.quota, "waited_s": self.waited_s,
        }  # fmt: skip

    def headline(self) -> str:
        """One line for an operator: "429 rate_limit_exceeded: Rate limit reached ..."."""
        cause = self.local_fault or self.answer_defect
        label = self.error_code or self.error_type or cause or self.exception or "failed"
        status = f"{self.http_status} " if self.http_status else ""
        text = " ".join(self.text.split())
        return f"{status}{label}: {text}" if text else f"{status}{label}"
