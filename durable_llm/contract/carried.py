"""What a call carries into its next run when its deadline is extended.

Temporal ends a run at a time that is set at its start. So a call whose deadline is extended continues as new: the same
id, a new run with a later end, and everything that the call knows in the new run's request.
"""

from datetime import datetime
from typing import Any

from pydantic import Field

from durable_llm.contract.ledger import Ledger
from durable_llm.contract.wire import Wire


class Wait(Wire):
    """A wait between two attempts."""

    ends: datetime
    reason: str


class Carried(Wire):
    """Where a call is between two attempts."""

    ledger: Ledger
    unknown_costs: int = 0
    """Attempts whose cost is unknown."""
    progress: dict[str, Any]
    """Where it is in its chain, as the policy keeps it."""
    policy_version: int
    paused: bool = False
    parked: str | None = None
    """Why it is parked. None: it is not."""
    wait: Wait | None = None
    """The wait that goes on. None: the next attempt begins at once."""
    resume: str | None = None
    """Id of the response that the next attempt follows."""
    needs_all_messages: list[int] = Field(default_factory=list)
    """Models that no longer have the response to continue from, by their index."""
