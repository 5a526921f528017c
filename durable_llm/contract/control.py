"""What an operator may tell a call in flight: the arguments of its updates, as the client sends them and the UI too."""

from typing import Annotated, Final

from pydantic import AwareDatetime, Field

from durable_llm.contract.config import ModelSpec
from durable_llm.contract.wire import Strict

WHO_CHARS: Final = 100
MOST_MODELS: Final = 50


Who = Annotated[str, Field(max_length=WHO_CHARS)]
Why = Annotated[str, Field(max_length=500)]


class Told(Strict):
    """Who tells it, and why; both are kept."""

    by: Who = ""
    why: Why = ""


class ToldToSkip(Told):
    """Leave the model."""

    model: str | None = None
    """Only if the call asks this model now or next: somebody else may have been faster. None: whichever it is."""


class ToldToReplace(Told):
    """Ask other models."""

    models: Annotated[list[ModelSpec], Field(min_length=1, max_length=MOST_MODELS)]
    """What to ask after the current model; of a parked call, instead of all models."""


class ToldToExtend(Told):
    """Give the call more time."""

    deadline: AwareDatetime
    """When the call ends in any case, with its time zone."""


class ToldToEnd(Told):
    """End with a given answer."""

    text: str
    """The answer."""
