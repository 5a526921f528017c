"""What can go wrong with a store, split by what helps: time, the operator, or neither.

    StoreError
      StoreUnavailableError   try again: it does not answer, or says that it cannot now
      StoreRefusedError       correct its set-up: it answers and does not let us
      ContentMissingError     submit again: it does not hold what the reference names
      ContentCorruptError     the same: what it holds is something else

No text holds a credential.
"""


class StoreError(Exception):
    """Base of a store's errors; the text names the store."""


class StoreUnavailableError(StoreError):
    """The store does not answer; later it may."""


class StoreRefusedError(StoreError):
    """The store answers and refuses: credentials, rights, a bucket, table or directory that is not there."""


class ContentMissingError(StoreError):
    """The store holds nothing under the name."""


class ContentCorruptError(StoreError):
    """What the store holds under the name is not what was put there."""


class StoreSettingError(ValueError):
    """A store's URL cannot be used; the text says what to write, and does not repeat what may hold a password."""
