"""Where prompts lie that are too large for Temporal.

Temporal takes two megabytes; one photograph is more. The client puts such a prompt here under the hash of its content
and gives the call a reference; the attempt fetches it. The workflow sees the reference alone, so a replay fetches
nothing. Client and worker open the same store by the same setting, DURABLE_LLM_STORE.
"""

from durable_llm.store.driver import Driver
from durable_llm.store.errors import (
    ContentCorruptError,
    ContentMissingError,
    StoreError,
    StoreRefusedError,
    StoreSettingError,
    StoreUnavailableError,
)
from durable_llm.store.store import Store
from durable_llm.store.urls import STORE_VARIABLE, open_store, store_from_environment

__all__ = [
    "STORE_VARIABLE",
    "ContentCorruptError",
    "ContentMissingError",
    "Driver",
    "Store",
    "StoreError",
    "StoreRefusedError",
    "StoreSettingError",
    "StoreUnavailableError",
    "open_store",
    "store_from_environment",
]
