"""The operator's file of named chains: a name for a chain of models, with its policy."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from durable_llm.contract.yaml_file import read_yaml

CHAINS_VARIABLE: Final = "DURABLE_LLM_CHAINS"
"""The file; callers and the front read it, workers do not."""


def read_chains(environment: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """The chains by name, each a table with `models` for an LLMConfig, and perhaps `policy` and `stream`.

    {}: no file is named.

    Args:
        environment: Where DURABLE_LLM_CHAINS is. None: the process's.

    Raises:
        ValueError: the file cannot be read, or is no table of chains; names the variable.
    """
    path = (os.environ if environment is None else environment).get(CHAINS_VARIABLE)
    if not path:
        return {}
    chains = read_yaml(CHAINS_VARIABLE, Path(path))
    if not isinstance(chains, dict) or not all(
        isinstance(chain, dict) and "models" in chain for chain in chains.values()
    ):
        raise ValueError(f"{CHAINS_VARIABLE}: expected names of chains, like 'fast: {{models: [openai/gpt-4o-mini]}}'")
    for name, chain in chains.items():
        if "/" in str(name):
            raise ValueError(f"{CHAINS_VARIABLE}: {name!r} looks like a model; a chain's name has no '/'")
        if unknown := sorted(chain.keys() - {"models", "policy", "stream"}):
            raise ValueError(f"{CHAINS_VARIABLE}: {name}: unknown {unknown[0]!r}; write models, policy or stream")
    return {str(name): {**chain, "models": _specs(chain["models"])} for name, chain in chains.items()}


def _specs(models: Any) -> Any:
    """Models with the fields of a spec; a name is a spec of that name. The config refuses what is no list."""
    if not isinstance(models, list):
        return models
    return [{"name": model} if isinstance(model, str) else model for model in models]
