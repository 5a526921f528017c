"""A prompt as content of a store: the very payload that Temporal would have kept.

A codec that encrypts payloads encrypts these too: the store can be read only by those who can read the history.
"""

import asyncio

from temporalio.api.common.v1 import Payload
from temporalio.converter import DataConverter

from durable_llm.contract.request import Prompt, PromptReference
from durable_llm.store.errors import ContentCorruptError
from durable_llm.store.store import Store


async def to_content(converter: DataConverter, prompt: Prompt) -> bytes:
    """The prompt's payload, serialized."""
    # Not by the converter's `encode`: it searches each payload for references, 0.35 s at 20 MB.
    payloads = converter.payload_converter.to_payloads([prompt])
    if converter.payload_codec is not None:
        payloads = await converter.payload_codec.encode(payloads)
    return payloads[0].SerializeToString()


async def from_content(converter: DataConverter, content: bytes) -> Prompt:
    """The prompt in a serialized payload. What takes CPU runs in threads.

    Raises:
        Exception: any error of a codec or a converter that cannot read it.
    """
    payloads = [await asyncio.to_thread(Payload.FromString, content)]
    if converter.payload_codec is not None:
        payloads = await converter.payload_codec.decode(payloads)
    prompt: Prompt = await asyncio.to_thread(converter.payload_converter.from_payload, payloads[0], Prompt)
    return prompt


async def get_content(store: Store, reference: PromptReference) -> bytes:
    """The content that `reference` names.

    Raises:
        StoreError: the store cannot give it, or it has changed.
    """
    content = await store.get(reference.sha256)
    if len(content) != reference.size:
        raise ContentCorruptError(f"what {store.place} holds under {reference.sha256} has another size")
    return content
