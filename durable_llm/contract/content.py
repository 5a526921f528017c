"""A reference to what is too large for Temporal."""

from durable_llm.contract.wire import Wire


class ContentReference(Wire):
    """Where a prompt or vectors are that are too large for Temporal: the content of this name in the store.

    The content is the serialized Temporal payload that would otherwise be in the history, encrypted if the client's
    data converter encrypts.
    """

    sha256: str
    """The content's hash in 64 hexadecimal digits, which is its name."""
    size: int
    """Bytes of the content."""
