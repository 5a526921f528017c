"""A prompt on its way to Temporal: as it is, or, where it is too large, by way of the store."""

import logging
from collections.abc import Iterable

from temporalio.converter import DataConverter

from durable_llm.contract.config import ModelSpecOnWire
from durable_llm.contract.request import STORED_PROMPT_BYTES, Prompt, PromptReference, needed_version
from durable_llm.errors import DispatcherUnavailableError
from durable_llm.store.errors import StoreError, StoreUnavailableError
from durable_llm.store.patience import patiently
from durable_llm.store.prompts import to_content
from durable_llm.store.store import Store

logger = logging.getLogger("durable_llm")


class SubmittedPrompt:
    """One prompt, and how the call gets it.

    Args:
        prompt: The prompt.
        size: Its bytes as JSON.
        store: Where a large one goes; None: nowhere.
        converter: The client's data converter, which may encrypt.

    Attributes:
        size: Its bytes as JSON.
        messages: How many messages it has.
        unanswered: What did not answer yet, while the store is what is waited for; else None.
    """

    def __init__(self, prompt: Prompt, size: int, store: Store | None, converter: DataConverter) -> None:
        self._prompt = prompt
        self._store = store if size > STORED_PROMPT_BYTES else None
        self._converter = converter
        self._reference: PromptReference | None = None
        self.size = size
        self.messages = len(prompt.messages)
        self.unanswered: str | None = None

    @property
    def is_stored(self) -> bool:
        """Whether the call gets a reference."""
        return self._store is not None

    def schema_version(self, models: Iterable[ModelSpecOnWire]) -> int:
        """The oldest that knows how this prompt travels and how these models are asked."""
        background = any(model.background for model in models)
        return needed_version(self._prompt, stored=self.is_stored, background=background)

    async def argument(self) -> Prompt | PromptReference:
        """What the workflow is given; the first time, a large prompt is put into the store, however long that takes.

        Raises:
            DispatcherUnavailableError: the store refuses.
        """
        if self._store is None:
            return self._prompt
        if self._reference is None:
            self._reference = await self._put(self._store)
        return self._reference

    async def _put(self, store: Store) -> PromptReference:
        content = await to_content(self._converter, self._prompt)
        self.unanswered = f"the store {store.place}"
        try:
            name = await patiently(lambda: store.put(content), told=self._told)
        except StoreError as error:
            raise DispatcherUnavailableError(f"the prompt's store refuses: {error}") from None
        self.unanswered = None
        return PromptReference(sha256=name, size=len(content))

    def _told(self, error: StoreUnavailableError) -> None:
        self.unanswered = f"the store {error}"
        logger.warning("the prompt waits for its store: %s", error)
