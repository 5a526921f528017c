"""Delete old prompts from the store. No call may delete one, because another call may need the same prompt."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from durable_llm.errors import DispatcherUnavailableError
from durable_llm.store import STORE_VARIABLE, StoreError

from .settings import SettingsError, load_settings, store_of


async def run_sweep(keep_days: int, announce: Callable[[str], None]) -> None:
    """Delete prompts that were last put more than `keep_days` days ago, and announce how many.

    Raises:
        SettingsError: no store is set, or its setting cannot be used.
        DispatcherUnavailableError: the store does not answer, or refuses.
    """
    store = store_of(load_settings())
    if store is None:
        raise SettingsError(f"{STORE_VARIABLE} is not set, so there is no store to sweep")
    try:
        deleted = await store.sweep(datetime.now(UTC) - timedelta(days=keep_days))
    except StoreError as error:
        raise DispatcherUnavailableError(str(error)) from None
    announce(f"deleted {deleted} prompts older than {keep_days} days from {store.place}")
