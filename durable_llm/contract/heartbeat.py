"""What an attempt's heartbeats carry: all that the next attempt needs should the worker die.

Temporal keeps the last heartbeat's details of an activity that timed out. Without the response's id among them a killed
worker's background response would be begun, and paid, a second time.
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
    """The response's id in a heartbeat's details; None when they have none."""
    try:
        return AttemptHeartbeat.model_validate(details[0]).response_id if details else None
    except ValidationError:  # another version's: nothing can be resumed, and the call goes on
        return None
