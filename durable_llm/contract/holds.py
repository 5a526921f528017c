"""Holds: accounts or models that an operator lets no call ask for now."""

import hashlib
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Annotated, Final

from pydantic import Field

from durable_llm.contract.config import ModelSpecOnWire
from durable_llm.contract.control import Who, Why
from durable_llm.contract.wire import Wire

MEMO_HOLD: Final = "hold"


class Hold(Wire):
    """What is held, and who holds it."""

    models: Annotated[str, Field(min_length=1, max_length=200)]
    """A provider ("openai"), a model ("openai/gpt-4o"), or a pattern with "*" ("openai/gpt-4o*")."""
    api_key: str | None = None
    """Only the account of this reference in the specs ("os.environ/NAME"). None: every account."""
    by: Who = ""
    why: Why = ""
    since: datetime
    until: datetime | None = None
    """When it ends by itself. None: when it is released."""

    def covers(self, spec: ModelSpecOnWire) -> bool:
        """Whether attempts of a spec are held."""
        named = (
            spec.name == self.models or spec.name.startswith(f"{self.models}/") or fnmatchcase(spec.name, self.models)
        )
        return named and self.api_key in (None, spec.api_key)

    @property
    def title(self) -> str:
        """What is held, in words."""
        return self.models if self.api_key is None else f"{self.models} with {self.api_key}"


class HoldStart(Wire):
    """What the workflow of a hold begins with."""

    hold: Hold
    call_ids: list[str] = Field(default_factory=list)
    """Calls that wait for its end."""


def hold_id(task_queue: str, models: str, api_key: str | None) -> str:
    """The id of the workflow of a hold. An account's key reference is in it as a short hash."""
    account = "" if api_key is None else f"#{hashlib.sha256(api_key.encode()).hexdigest()[:12]}"
    return f"holds/{task_queue}/{models}{account}"
