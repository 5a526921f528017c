"""A connection to Temporal that outlasts outages, and what its RPC errors mean to a caller.

The SDK's default retry gives up after ten seconds of outage, even for a pending result. Calls outlive that, so our
connection retries without limit, and only the caller's `wait` limits how long a caller waits.
"""

import asyncio
import atexit
import functools
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final, TypeVar

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client, RetryConfig, WorkflowExecutionDescription
from temporalio.envconfig import ClientConfig
from temporalio.service import RPCError, RPCStatusCode

from durable_llm.backoff import Backoff
from durable_llm.client.trace_context import TraceContext
from durable_llm.contract import search_attributes
from durable_llm.contract.names import WORKFLOW
from durable_llm.encryption.codec import data_converter
from durable_llm.errors import (
    CallConflictError,
    CallNotFoundError,
    DecryptionError,
    DispatcherUnavailableError,
    DurableLLMError,
    InvalidRequestError,
    ResultNotReadyError,
)

logger = logging.getLogger("durable_llm")

_T = TypeVar("_T")

_NO_NAMESPACE = re.compile(r"namespace \S+ (is )?not found", re.IGNORECASE)

DEFAULT_ADDRESS: Final = "localhost:7233"
_PATIENT: Final = RetryConfig(
    initial_interval_millis=100, max_interval_millis=5000, max_elapsed_time_millis=None, max_retries=1_000_000
)
_NO_ANSWER: Final = (RPCStatusCode.CANCELLED, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.UNAVAILABLE)
_ASK_AGAIN_S: Final = 1.0
_SDK_SETTLES_S: Final = 0.3
"""Seconds of sleep before the interpreter ends. Measured: without it a script that ended with a cancelled RPC crashed 9
times in 70, with it 0 times in 120 (temporalio sdk-python issue 300)."""


_connected_in: int | None = None
"""Id of the process that has a client of Temporal's."""


def check_not_forked() -> None:
    """Refuse to use a connection in a child process that has inherited it: it would wait without end.

    Raises:
        InvalidRequestError: this process was forked from one with a connection.
    """
    if _connected_in not in (None, os.getpid()):
        raise InvalidRequestError(
            "this process was forked from one with a connection to Temporal, whose threads did not come along; start "
            "processes by multiprocessing's 'spawn' or 'forkserver', or connect only after the fork"
        )


async def connect_client(*, wait: timedelta, profile: str | None = None) -> Client:
    """Connect with the settings of the TEMPORAL_* environment or of the profile; retry for `wait`.

    Raises:
        DispatcherUnavailableError: no server answered; the text names the address.
        InvalidRequestError: the environment or the profile cannot be used.
    """
    check_not_forked()
    settings, converter = load_settings(profile), data_converter()
    backoff, last = Backoff(first_s=0.1, longest_s=2.0), Exception("no answer")
    try:
        async with asyncio.timeout(max(wait.total_seconds(), 0.1)):
            while True:
                try:
                    return await Client.connect(
                        **settings, data_converter=converter, interceptors=[TraceContext()], retry_config=_PATIENT
                    )
                except (RuntimeError, RPCError) as error:
                    last = error
                await backoff.pause()
    except TimeoutError:
        raise _unreachable(settings["target_host"], wait, last) from None


def load_settings(profile: str | None = None) -> Any:
    """Connection settings from TEMPORAL_* variables and Temporal's configuration file.

    Raises:
        InvalidRequestError: the file or the profile in it cannot be used.
    """
    try:
        settings: Any = ClientConfig.load_client_connect_config(profile=profile)
    except Exception as error:  # envconfig raises several kinds of plain exceptions
        raise InvalidRequestError(f"Temporal's connection settings: {error}") from None
    if "@" in settings.setdefault("target_host", DEFAULT_ADDRESS):  # every message names the address
        raise InvalidRequestError("Temporal's address: expected HOST:PORT; credentials go into TEMPORAL_API_KEY")
    return settings


def _unreachable(address: str, wait: timedelta, error: Exception) -> DispatcherUnavailableError:
    return DispatcherUnavailableError(
        f"no Temporal server answered at {address} within {wait.total_seconds():g} s "
        f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); set TEMPORAL_ADDRESS, or start one "
        "with 'durable-llm dev'"
    )


async def check_namespace(client: Client, *, want_search_attributes: bool, wait: timedelta) -> None:
    """Check that the namespace exists and has our search attributes.

    Raises:
        DispatcherUnavailableError: it does not; the text names the command that sets it up.
    """
    request = DescribeNamespaceRequest(namespace=client.namespace)
    try:
        async with asyncio.timeout(wait.total_seconds()):
            await client.workflow_service.describe_namespace(request)
            absent = await search_attributes.missing(client) if want_search_attributes else []
    except TimeoutError as error:
        raise _unreachable(client.service_client.config.target_host, wait, error) from None
    except RPCError as error:
        if error.status == RPCStatusCode.PERMISSION_DENIED:
            logger.warning(
                "no permission to read namespace %r; its search attributes are not checked", client.namespace
            )
            return
        raise translate(error, client) from None
    if absent:
        raise DispatcherUnavailableError(missing_search_attributes(client, absent))


def missing_search_attributes(client: Client, absent: list[str]) -> str:
    """The error text for a namespace that lacks some of our search attributes."""
    place = f"namespace {client.namespace!r} at {client.service_client.config.target_host}"
    return (
        f"{place} lacks the search attributes {', '.join(absent)} (or has them under another type); run "
        "'durable-llm setup' once, or connect with search_attributes=False to do without"
    )


async def until_answered(ask: Callable[[], Awaitable[_T]]) -> _T:
    """What `ask` returns, asked again while the server does not answer.

    Whatever its retry settings, the SDK gives up on an RPC if a single try gets no answer within 30 s, and reports a
    cancellation. Without this loop an outage of that length would end every submission.
    """
    while True:
        try:
            return await ask()
        except RPCError as error:
            if error.status not in _NO_ANSWER:
                raise
        await asyncio.sleep(_ASK_AGAIN_S)


def translate(error: RPCError, client: Client, call_id: str | None = None) -> DurableLLMError:
    """The typed error for an RPC that the server refused."""
    address = client.service_client.config.target_host
    first_line = str(error).splitlines()[0] if str(error) else error.status.name
    if error.status == RPCStatusCode.NOT_FOUND and _NO_NAMESPACE.match(first_line):
        return DispatcherUnavailableError(
            f"namespace {client.namespace!r} does not exist at {address}; set TEMPORAL_NAMESPACE, or create it with "
            f"'temporal operator namespace create -n {client.namespace}'",
            call_id=call_id,
        )
    if error.status == RPCStatusCode.NOT_FOUND:
        return CallNotFoundError(
            f"there is no call {call_id!r} in namespace {client.namespace!r}; it was never submitted, or its "
            "retention has passed",
            call_id=call_id,
        )
    if error.status == RPCStatusCode.INVALID_ARGUMENT:
        return InvalidRequestError(f"Temporal refused the call: {first_line}", call_id=call_id)
    return DispatcherUnavailableError(f"Temporal at {address}: {error.status.name}: {first_line}", call_id=call_id)


def check_workflow_type(description: WorkflowExecutionDescription) -> None:
    """Refuse an id that belongs to another kind of workflow.

    Raises:
        CallConflictError: it does.
    """
    if description.workflow_type != WORKFLOW:
        raise CallConflictError(
            f"call id {description.id!r} belongs to a workflow of type {description.workflow_type!r}; use another id",
            differing=("workflow type",),
            call_id=description.id,
        )


class Rpcs:
    """The open RPCs, so that closing can cancel and await them before the interpreter ends."""

    def __init__(self, client: Client) -> None:
        global _connected_in  # noqa: PLW0603  # the SDK has one runtime for a process
        _connected_in = os.getpid()
        self._client = client
        self._tasks: set[asyncio.Task[Any]] = set()
        self.closed = False

    async def run(
        self, rpc: Awaitable[_T], *, call_id: str | None = None, wait: timedelta | None = None, result: bool = False,
        unanswered: Callable[[], str | None] = lambda: None,
    ) -> _T:  # fmt: skip
        """Await `rpc`, for at most `wait`.

        Args:
            rpc: What to await.
            call_id: The call's id, for error texts.
            wait: For how long; None: without limit.
            result: Whether `rpc` awaits a call's result.
            unanswered: Names what did not answer in time; None: Temporal.

        Raises:
            DispatcherUnavailableError: `wait` passed (ResultNotReadyError if a result was awaited).
            DurableLLMError: the server refused; the type says what that means.
        """
        check_not_forked()
        task = asyncio.ensure_future(rpc)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        limit = asyncio.timeout(wait.total_seconds() if wait is not None else None)
        try:
            async with limit:
                return await task
        except RPCError as error:
            raise translate(error, self._client, call_id) from None
        except DecryptionError as error:  # the codec does not know which call its payload belongs to
            error.call_id = call_id
            raise
        except TimeoutError:
            if not limit.expired() or wait is None:
                raise
            raise self._too_late(wait, call_id, result, unanswered()) from None

    def _too_late(self, wait: timedelta, call_id: str | None, result: bool, who: str | None) -> DurableLLMError:
        if result:
            return ResultNotReadyError(
                f"call {call_id!r} has not ended within {wait.total_seconds():g} s; it continues: attach({call_id!r})",
                call_id=call_id,
            )
        who = who or f"Temporal at {self._client.service_client.config.target_host}"
        return DispatcherUnavailableError(f"{who} did not answer within {wait.total_seconds():g} s", call_id=call_id)

    async def close(self) -> None:
        """Cancel and await the open RPCs."""
        self.closed = True
        pending = list(self._tasks)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


@functools.cache
def rest_at_exit() -> None:
    """Give the SDK's threads time to stop when the interpreter ends; registered once per process."""
    atexit.register(time.sleep, _SDK_SETTLES_S)
