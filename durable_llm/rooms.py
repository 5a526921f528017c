"""Where the service's rooms are: inside this package once installed, beside it in a checkout.

`workflows`, `activities` and `workers` are names that others have too, so an installation takes none of them from a
caller's process. This module and `workers/rooms` are the only places that know both spellings.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

_PREFIX: Final = "durable_llm." if find_spec("durable_llm.workers") else ""


def room(module: str) -> Any:
    """A module of the service, for example "workers.plugin"; imported when it is asked for, since litellm is heavy."""
    return import_module(f"{_PREFIX}{module}")
