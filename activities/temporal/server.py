"""What an attempt needs from the Temporal server: the call's prompt, and whether it is reachable.

The SDK tries for ten seconds to deliver a completion and then drops it. The answer was paid for, so an attempt waits
until the server is reachable before it completes. An answer of the server from the last second is enough, so an attempt
that takes less asks nothing.
"""

import asyncio
import contextlib
import time
from datetime import timedelta
from typing import Any, Final, Protocol

from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.converter import DataConverter
from temporalio.service import RPCError, RPCStatusCode

from durable_llm.backoff import Backoff
from durable_llm.contract.content import ContentReference
from durable_llm.contract.facts import LocalFault
from durable_llm.contract.request import Prompt
from durable_llm.errors import DecryptionError

from ..faults import LocalFaultError

FRESH_S: Final = 1.0
"""Seconds for which an answer of the server shows that it is reachable."""

_CHECK: Final = timedelta(seconds=2)
_FIRST_DELAY_S: Final = 0.1
_LONGEST_DELAY_S: Final = 1.0


class Server(Protocol):
    """The server, for an attempt."""

    async def prompt(self) -> Prompt:
        """The prompt of the attempt's call."""
        ...

    async def prompt_of(self, call_id: str, run_id: str) -> Prompt | ContentReference:
        """The prompt of a call, or its place in the store."""
        ...

    async def reachable(self, heard_at: float) -> None:
        """Return when the server answers, or at once if it answered within the last second.

        Args:
            heard_at: When it gave the attempt, by `time.monotonic`.
        """
        ...


class TemporalServer:
    """The server of the running activity.

    Args:
        converter: Decodes prompts. None: the converter of the worker's client.
    """

    def __init__(self, converter: DataConverter | None = None) -> None:
        self._converter = converter
        self._check: asyncio.Task[None] | None = None
        self._answered_at = -FRESH_S

    async def prompt(self) -> Prompt:
        """The second argument of the call's workflow, from the first event of its history.

        Raises:
            LocalFaultError: it is missing or cannot be decoded.
        """
        info = activity.info()
        found = await self.prompt_of(info.workflow_id or "", info.workflow_run_id or "")
        if not isinstance(found, Prompt):
            raise LocalFaultError(LocalFault.UNDECODABLE, "the call's prompt is a reference that is not in its order")
        return found

    async def prompt_of(self, call_id: str, run_id: str) -> Prompt | ContentReference:
        """The prompt of a call, or its place in the store.

        Raises:
            LocalFaultError: it is missing or cannot be decoded.
        """
        client = activity.client()
        handle = client.get_workflow_handle(call_id, run_id=run_id)
        either: Any = Prompt | ContentReference
        backoff = Backoff(_FIRST_DELAY_S, _LONGEST_DELAY_S)
        while True:
            try:
                async for event in handle.fetch_history_events(page_size=1):
                    payload = event.workflow_execution_started_event_attributes.input.payloads[1]
                    converter = self._converter or client.data_converter
                    decoded: list[Prompt | ContentReference] = await converter.decode([payload], [either])
                    return decoded[0]
                raise LocalFaultError(LocalFault.PROMPT_UNREADABLE, "the call's history is empty")
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND:
                    raise _unreadable(error) from None
            except LocalFaultError:
                raise
            except DecryptionError as error:
                raise LocalFaultError(LocalFault.UNDECIPHERED, error.message) from None
            except Exception as error:  # codecs and converters raise anything
                text = f"the call's prompt cannot be decoded: {type(error).__name__}"
                raise LocalFaultError(LocalFault.UNDECODABLE, text) from None
            await backoff.pause()

    async def reachable(self, heard_at: float) -> None:
        """See `Server`. Attempts that wait at the same time share one request."""
        if time.monotonic() - max(heard_at, self._answered_at) < FRESH_S:
            return
        if self._check is None or self._check.done():
            self._check = asyncio.create_task(_until_healthy(activity.client()))
        await asyncio.shield(self._check)
        self._answered_at = time.monotonic()


async def _until_healthy(client: Client) -> None:
    backoff = Backoff(_FIRST_DELAY_S, _LONGEST_DELAY_S)
    while True:
        with contextlib.suppress(RPCError, RuntimeError):
            if await client.service_client.check_health(timeout=_CHECK):
                return
        await backoff.pause()


def worker_stops() -> bool:
    """Whether the attempt was cancelled because its worker shuts down."""
    details = activity.cancellation_details()
    return details is not None and details.worker_shutdown


async def given_up() -> bool:
    """Whether the attempt was abandoned: by its own timeout, or because its call has ended.

    An attempt that the server no longer knows may have been replaced after late heartbeats. The new attempt then
    follows its response, unless the call has ended.
    """
    details = activity.cancellation_details()
    if details is None or details.cancel_requested:
        return True
    return details.not_found and not await _call_runs()


async def _call_runs() -> bool:
    info = activity.info()
    handle = activity.client().get_workflow_handle(info.workflow_id or "", run_id=info.workflow_run_id)
    try:
        return (await handle.describe(rpc_timeout=_CHECK)).status is WorkflowExecutionStatus.RUNNING
    except RPCError:  # unknown
        return True


def _unreadable(error: Exception) -> LocalFaultError:
    return LocalFaultError(
        LocalFault.PROMPT_UNREADABLE, f"the call's prompt cannot be read from its history: {type(error).__name__}"
    )
