"""Deleting old prompts from the store: nothing else ever does, since no call knows whether another one needs them."""

import sys
from datetime import UTC, datetime, timedelta

from durable_llm.store import STORE_VARIABLE, StoreError

from .settings import SettingsError, load_settings, store_of

EXIT_UNAVAILABLE = 3


async def run_sweep(keep_days: int) -> int:
    """Delete what was last put more than `keep_days` days ago, and say how much that was.

    Returns:
        The exit code: 0, or 3 where the store does not answer or refuses.

    Raises:
        SettingsError: there is no store, or its setting cannot be used.
    """
    store = store_of(load_settings())
    if store is None:
        raise SettingsError(f"{STORE_VARIABLE} is not set: there is no store to sweep")
    try:
        deleted = await store.sweep(datetime.now(UTC) - timedelta(days=keep_days))
    except StoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_UNAVAILABLE
    print(f"deleted {deleted} prompts older than {keep_days} days from {store.place}")
    return 0
