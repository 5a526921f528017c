"""The errors of a store, by what helps.

    StoreError
      StoreUnavailableError   try again: the store does not answer, or cannot serve now
      StoreRefusedError       correct the set-up: the store refuses
      ContentMissingError     submit again: the store does not have the content
      ContentCorruptError     submit again: the content has changed

No text holds a credential.
"""


class StoreError(Exception):
    """Base of a store's errors. The text names the store."""


class StoreUnavailableError(StoreError):
    """The store does not answer. It may answer later."""


class StoreRefusedError(StoreError):
    """The store refuses: wrong credentials or rights, a missing bucket, table or directory."""


class ContentMissingError(StoreError):
    """The store has nothing under this name."""


class ContentCorruptError(StoreError):
    """The content under this name is not what was put there."""


class StoreSettingError(ValueError):
    """A store's URL cannot be used. The text says what to write, without the URL, which may hold a password."""
