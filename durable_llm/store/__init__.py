"""The store of prompts that are too large for Temporal.

Temporal accepts two megabytes, and one photograph is more. The client puts such a prompt into the store under the hash
of its content and gives the call a reference. The attempt fetches the prompt. The workflow only sees the reference, so
a replay fetches nothing. Client and worker open the same store by the same setting, DURABLE_LLM_STORE.
"""

from durable_llm.store.errors import (
    ContentCorruptError,
    ContentMissingError,
    StoreError,
    StoreRefusedError,
    StoreSettingError,
    StoreUnavailableError,
)
from durable_llm.store.store import Driver, Store, retry_while_unavailable
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
    "retry_while_unavailable",
    "store_from_environment",
]
