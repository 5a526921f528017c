"""A prompt as content of a store: the very payload that Temporal would have kept.

A codec that encrypts payloads encrypts these, and who cannot read the history cannot read the store.
"""

import asyncio

from temporalio.api.common.v1 import Payload
from temporalio.converter import DataConverter

from durable_llm.contract.request import Prompt, PromptReference
from durable_llm.store.errors import ContentCorruptError
from durable_llm.store.store import Store


async def to_content(converter: DataConverter, prompt: Prompt) -> bytes:
    """The prompt's payload, serialized."""
    # By its parts: the converter's own `encode` looks through each payload for references, 0.35 s at 20 MB.
    payloads = converter.payload_converter.to_payloads([prompt])
    if converter.payload_codec is not None:
        payloads = await converter.payload_codec.encode(payloads)
    return payloads[0].SerializeToString()


async def from_content(converter: DataConverter, content: bytes) -> Prompt:
    """The prompt in a serialized payload; what takes the CPU is done in threads.

    Raises:
        Exception: whatever a codec or a converter raises for what it cannot read.
    """
    payloads = [await asyncio.to_thread(Payload.FromString, content)]
    if converter.payload_codec is not None:
        payloads = await converter.payload_codec.decode(payloads)
    prompt: Prompt = await asyncio.to_thread(converter.payload_converter.from_payload, payloads[0], Prompt)
    return prompt


async def get_content(store: Store, reference: PromptReference) -> bytes:
    """The content that `reference` names.

    Raises:
        StoreError: it could not be had, or is not what was put there.
    """
    content = await store.get(reference.sha256)
    if len(content) != reference.size:
        raise ContentCorruptError(f"what {store.place} holds under {reference.sha256} has another size")
    return content
