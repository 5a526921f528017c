"""What an attempt's heartbeats carry: what the next attempt needs if the worker dies.

Temporal keeps the details of the last heartbeat of an activity that timed out. Without the response's id in them, a
killed worker's background response would be started, and paid, a second time.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from durable_llm.contract.wire import Wire


class AttemptHeartbeat(Wire):
    """Details of an attempt's heartbeats."""

    response_id: str | None = None
    """Id of the background response that the attempt follows."""


def response_of(details: Sequence[Any]) -> str | None:
    """The response's id in a heartbeat's details; None if there is none."""
    try:
        return AttemptHeartbeat.model_validate(details[0]).response_id if details else None
    except ValidationError:  # another version's details: nothing can be resumed, and the call continues
        return None
