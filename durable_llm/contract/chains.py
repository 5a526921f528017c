"""The operator's file of named chains: a name for a chain of models, with its policy.

Beside the chains the file may hold sections of other names: what providers allow, and what tenants may use and spend.
"""

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from durable_llm.contract.wire import describe_validation_error
from durable_llm.contract.yaml_file import read_yaml

_Declared = TypeVar("_Declared", bound=BaseModel)

CHAINS_VARIABLE: Final = "DURABLE_LLM_CHAINS"
"""The file. Callers and the front read its chains, tenants and budgets; workers read its quotas."""

SECTIONS: Final = ("quotas", "tenants", "budgets")
"""Names in the file that are not chains."""

_EXPECTED: Final = f"{CHAINS_VARIABLE}: expected names of chains, like 'fast: {{models: [openai/gpt-4o-mini]}}'"


def read_chains(environment: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """The chains by name, each a table with `models` for an LLMConfig, and perhaps `policy` and `stream`.

    {}: no file is named.

    Args:
        environment: Where DURABLE_LLM_CHAINS is. None: the process's.

    Raises:
        ValueError: the file cannot be read, or is no table of chains; names the variable.
    """
    chains = {name: chain for name, chain in _read(environment).items() if name not in SECTIONS}
    if not all(isinstance(chain, dict) and "models" in chain for chain in chains.values()):
        raise ValueError(_EXPECTED)
    for name, chain in chains.items():
        if "/" in str(name):
            raise ValueError(f"{CHAINS_VARIABLE}: {name!r} looks like a model; a chain's name has no '/'")
        if unknown := sorted(chain.keys() - {"models", "policy", "stream", "priority"}):
            raise ValueError(
                f"{CHAINS_VARIABLE}: {name}: unknown {unknown[0]!r}; write models, policy, stream or priority"
            )
    return {str(name): {**chain, "models": _specs(chain["models"])} for name, chain in chains.items()}


def read_section(name: str, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """One of SECTIONS: a table by name. {}: the file has none, or no file is named.

    Args:
        name: The section's.
        environment: As for `read_chains`.

    Raises:
        ValueError: the file cannot be read, or the section is no table; names the variable.
    """
    section = _read(environment).get(name) or {}
    if not isinstance(section, dict):
        raise ValueError(f"{CHAINS_VARIABLE}: {name}: expected a table of names")
    return {str(key): entry for key, entry in section.items()}


def read_declared(section: str, kind: type[_Declared], environment: Mapping[str, str] | None = None) -> list[_Declared]:
    """The entries of a section, each checked.

    Args:
        section: One of SECTIONS.
        kind: What an entry is; its `name` is the entry's.
        environment: As for `read_chains`.

    Raises:
        ValueError: the file or an entry is wrong; names the entry.
    """
    declared = []
    for name, entry in read_section(section, environment).items():
        try:
            declared.append(kind(name=name, **entry))
        except (TypeError, ValidationError) as error:
            why = describe_validation_error(error) if isinstance(error, ValidationError) else "expected a table"
            raise ValueError(f"{CHAINS_VARIABLE}: {section}: {name}: {why}") from None
    return declared


def _read(environment: Mapping[str, str] | None) -> dict[Any, Any]:
    path = (os.environ if environment is None else environment).get(CHAINS_VARIABLE)
    content = _content(path, _changed_at(path)) if path else None
    content = {} if content is None else content  # a file of comments alone has nothing either
    if not isinstance(content, dict):
        raise ValueError(_EXPECTED)
    return content


def _changed_at(path: str) -> int:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return 0


@functools.lru_cache(maxsize=4)
def _content(path: str, changed_at: int) -> Any:  # noqa: ARG001  # a file that has changed is read again
    return read_yaml(CHAINS_VARIABLE, Path(path))


def _specs(models: Any) -> Any:
    """Models with the fields of a spec; a name is a spec of that name. The config refuses what is no list."""
    if not isinstance(models, list):
        return models
    return [{"name": model} if isinstance(model, str) else model for model in models]
