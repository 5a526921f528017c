"""A payload codec that puts marked prompts into the store, so that a workflow's history holds references to them."""

from collections.abc import Sequence

from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import PayloadCodec

from durable_llm.contract.names import STORE_MARK
from durable_llm.store.content import put_content
from durable_llm.store.store import Store


class StoringCodec(PayloadCodec):
    """Stores payloads that have the mark; leaves all others to the codec inside.

    Args:
        store: The store.
        inner: The codec of all payloads, stored ones too. None: there is none.
    """

    def __init__(self, store: Store, inner: PayloadCodec | None) -> None:
        self._store = store
        self._inner = inner

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """See base class.

        Raises:
            StoreError: the store refuses. While it does not answer, this waits.
        """
        return await self._encoded(
            [await self._kept(each) if STORE_MARK in each.metadata else each for each in payloads]
        )

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """See base class."""
        return list(payloads) if self._inner is None else await self._inner.decode(payloads)

    async def _encoded(self, payloads: list[Payload]) -> list[Payload]:
        return payloads if self._inner is None else await self._inner.encode(payloads)

    async def _kept(self, marked: Payload) -> Payload:
        """A reference to the payload, which is in the store from now on."""
        plain = Payload(data=marked.data)
        for name, value in marked.metadata.items():
            if name != STORE_MARK:
                plain.metadata[name] = value
        [content] = await self._encoded([plain])
        reference = await put_content(self._store, content.SerializeToString(), on_failure=lambda _: None)
        return PydanticPayloadConverter().to_payloads([reference])[0]
