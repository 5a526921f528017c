"""Files of batches, in the store of prompts. The store's sweep deletes them."""

import time
from typing import Any, Final

from temporalio.converter import DataConverter

from durable_llm.contract.content import ContentReference
from durable_llm.contract.wire import Wire
from durable_llm.errors import DispatcherUnavailableError
from durable_llm.store import ContentMissingError, Store, StoreError
from durable_llm.store.content import from_content, put_content, to_content

from ..access import RefusedError

PREFIX: Final = "file-"


class StoredFile(Wire):
    """A file with what is known of it, so that the store alone has all of it."""

    tenant: str
    filename: str
    purpose: str
    created_at: int
    """Seconds since 1970."""
    text: str


class Files:
    """The files of all tenants.

    Args:
        store: Where they are. None: there is no store.
        converter: Encrypts them where prompts are encrypted.
    """

    def __init__(self, store: Store | None, converter: DataConverter) -> None:
        self._store = store
        self._converter = converter

    async def put(self, tenant: str, filename: str, purpose: str, text: str) -> tuple[str, StoredFile]:
        """Keep a file. Returns its id, and the file.

        Raises:
            RefusedError: there is no store.
            DispatcherUnavailableError: the store refuses.
        """
        file = StoredFile(tenant=tenant, filename=filename, purpose=purpose, created_at=int(time.time()), text=text)
        try:
            kept: ContentReference = await put_content(
                self._required(), await to_content(self._converter, file), on_failure=lambda _: None
            )
        except StoreError as error:
            raise DispatcherUnavailableError(f"the store refuses the file: {error}") from None
        return PREFIX + kept.sha256, file

    async def get(self, tenant: str, file_id: str) -> StoredFile:
        """The file of this id, if it is the tenant's: others do not exist for it.

        Raises:
            RefusedError: there is no such file, or no store.
            DispatcherUnavailableError: the store does not answer.
        """
        try:
            content = await self._required().get(file_id.removeprefix(PREFIX))
        except ContentMissingError:
            raise RefusedError(404, f"there is no file {file_id[:100]!r}", "not_found") from None
        except StoreError as error:
            raise DispatcherUnavailableError(f"the file cannot be fetched: {error}") from None
        try:
            file = await from_content(self._converter, content, StoredFile)
        except ValueError:  # something else that the store keeps, such as a prompt
            file = None
        if file is None or file.tenant != tenant:
            raise RefusedError(404, f"there is no file {file_id[:100]!r}", "not_found")
        return file

    def _required(self) -> Store:
        if self._store is None:
            raise RefusedError(501, "files need a store; the operator sets DURABLE_LLM_STORE for the front")
        return self._store


def file_object(file_id: str, file: StoredFile) -> dict[str, Any]:
    """A file as OpenAI's API shows it."""
    return {
        "id": file_id, "object": "file", "bytes": len(file.text.encode()), "created_at": file.created_at,
        "filename": file.filename, "purpose": file.purpose, "status": "processed",
    }  # fmt: skip
