"""A prompt or vectors as content of a store: the very payload that Temporal would have kept.

A codec that encrypts payloads encrypts these too: the store can be read only by those who can read the history.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from temporalio.api.common.v1 import Payload
from temporalio.converter import DataConverter

from durable_llm.contract.content import ContentReference
from durable_llm.contract.wire import Wire
from durable_llm.store.errors import ContentCorruptError, StoreUnavailableError
from durable_llm.store.store import Store, retry_while_unavailable

_T = TypeVar("_T", bound=Wire)


async def to_content(converter: DataConverter, value: Wire) -> bytes:
    """The value's payload, serialized."""
    # Not by the converter's `encode`: it searches each payload for references, 0.35 s at 20 MB.
    payloads = converter.payload_converter.to_payloads([value])
    if converter.payload_codec is not None:
        payloads = await converter.payload_codec.encode(payloads)
    return payloads[0].SerializeToString()


async def from_content(converter: DataConverter, content: bytes, kind: type[_T]) -> _T:
    """The value in a serialized payload. What takes CPU runs in threads.

    Raises:
        Exception: any error of a codec or a converter that cannot read it.
    """
    payloads = [await asyncio.to_thread(Payload.FromString, content)]
    if converter.payload_codec is not None:
        payloads = await converter.payload_codec.decode(payloads)
    value: Any = await asyncio.to_thread(converter.payload_converter.from_payload, payloads[0], kind)
    return value  # type: ignore[no-any-return]  # the converter makes what it is asked for


async def put_content(
    store: Store, content: bytes, on_failure: Callable[[StoreUnavailableError], None]
) -> ContentReference:
    """Keep content, with retries while the store does not answer; the caller limits the time.

    Raises:
        StoreError: the store refuses.
    """
    name = await retry_while_unavailable(lambda: store.put(content), on_failure=on_failure)
    return ContentReference(sha256=name, size=len(content))


async def get_content(store: Store, reference: ContentReference) -> bytes:
    """The content that `reference` names.

    Raises:
        StoreError: the store cannot give it, or it has changed.
    """
    content = await store.get(reference.sha256)
    if len(content) != reference.size:
        raise ContentCorruptError(f"what {store.place} holds under {reference.sha256} has another size")
    return content
