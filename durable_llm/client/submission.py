"""One submission to Temporal: start the call, or find that its id is taken and by which request."""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from durable_llm.client.checks import check_not_passed, has_passed
from durable_llm.client.connection import check_workflow_type
from durable_llm.client.fingerprint import differing
from durable_llm.client.new_call import NewCall
from durable_llm.contract import search_attributes
from durable_llm.contract.categories import CallOutcome
from durable_llm.contract.content import ContentReference
from durable_llm.contract.names import MEMO_FINGERPRINT, MEMO_METADATA, WORKFLOW
from durable_llm.contract.nexus import NexusCall
from durable_llm.contract.request import DEADLINE_GRACE, CallRequest, Prompt
from durable_llm.errors import CallConflictError, DispatcherUnavailableError
from durable_llm.store.content import put_content, to_content
from durable_llm.store.errors import StoreError, StoreUnavailableError
from durable_llm.store.store import Store

logger = logging.getLogger("durable_llm")

_FAILED = {
    WorkflowExecutionStatus.FAILED,
    WorkflowExecutionStatus.CANCELED,
    WorkflowExecutionStatus.TERMINATED,
    WorkflowExecutionStatus.TIMED_OUT,
}


class Submission:
    """Submits one call.

    Args:
        client: The dispatcher's client.
        task_queue: The queue that the workers poll.
        store: Where a large prompt goes.
        call: What to start, and what to compare if the id is taken.

    Attributes:
        unanswered: What did not answer yet, while the submission waits for the store; else None.
    """

    def __init__(self, client: Client, task_queue: str, store: Store | None, call: NewCall) -> None:
        self._client = client
        self._task_queue = task_queue
        self._store = store
        self._call = call
        self._reference: ContentReference | None = None
        self.unanswered: str | None = None

    async def start_or_attach(self, *, rerun: bool, attach_anyway: bool) -> bool:
        """Start the call; if the id is taken, check that it belongs to the same request.

        Returns:
            Whether this submission started it.

        Raises:
            CallConflictError: it belongs to another one.
            DispatcherUnavailableError: the store refuses the prompt.
            InvalidRequestError: the call would have to be started, and its deadline has passed.
        """
        look_first = self._call.stored or has_passed(self._call.request.deadline_at)  # attaching needs neither
        taken = look_first and await self._is_taken()
        if not taken and await self._start(WorkflowIDReusePolicy.REJECT_DUPLICATE):
            return True
        description = await self._check_owner(attach_anyway)
        if not rerun or description.status not in _FAILED:
            return False
        started = await self._start(WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY)
        if not started:
            await self._check_owner(attach_anyway)  # another submission was faster; attach to its run
        return started

    async def _is_taken(self) -> bool:
        try:
            await self._client.get_workflow_handle(self._call.call_id).describe()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return False  # or the namespace does not exist; then the start says so
            raise
        return True

    async def _start(self, reuse: WorkflowIDReusePolicy) -> bool:
        """Whether this submission started the call; False if the id is taken."""
        call = self._call
        check_not_passed(call.request.deadline_at)
        prompt = call.prompt if self._store is None or not call.stored else await self._stored(self._store)
        try:
            await self._client.start_workflow(
                WORKFLOW,
                args=[call.request, prompt],
                id=call.call_id,
                task_queue=self._task_queue,
                run_timeout=time_left(call.request) + DEADLINE_GRACE,
                id_reuse_policy=reuse,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                memo=memo_of(call),
                search_attributes=search_attributes_of(call.request),
                static_summary=summary_of(call),
                priority=call.share.for_temporal,
            )
        except WorkflowAlreadyStartedError:
            return False
        return True

    async def _stored(self, store: Store) -> Prompt | ContentReference:
        """A reference to the prompt in the store, where it is put the first time, however long that takes."""
        if self._reference is not None:
            return self._reference
        content = await to_content(self._client.data_converter, self._call.prompt)
        self.unanswered = f"the store {store.place}"
        try:
            self._reference = await put_content(store, content, self._store_failed)
        except StoreError as error:
            raise DispatcherUnavailableError(f"the prompt's store refuses: {error}") from None
        self.unanswered = None
        return self._reference

    def _store_failed(self, error: StoreUnavailableError) -> None:
        self.unanswered = f"the store {error}"
        logger.warning("the prompt waits for its store: %s", error)

    async def _check_owner(self, attach_anyway: bool) -> WorkflowExecutionDescription:
        """What has the id: a call, and, unless the caller attaches to any call, one with the same request."""
        description = await self._client.get_workflow_handle(self._call.call_id).describe()
        if attach_anyway:
            check_workflow_type(description)
        else:
            otherwise = ", or if_different='attach' to get that call's answer"
            await check_same_request(description, self._call.fingerprint, otherwise)
        return description


async def check_same_request(
    description: WorkflowExecutionDescription, fingerprint: Mapping[str, str], otherwise: str = ""
) -> None:
    """Refuse an id that belongs to another request, or to another kind of workflow.

    Args:
        description: What has the id.
        fingerprint: Hashes of what is asked now.
        otherwise: What a caller can do beside using another id.

    Raises:
        CallConflictError: it does; names the parts that differ.
    """
    check_workflow_type(description)
    theirs: dict[str, str] = await description.memo_value(MEMO_FINGERPRINT, {}, type_hint=dict[str, str])
    if parts := differing(fingerprint, theirs):
        raise CallConflictError(
            f"call id {description.id!r} belongs to another request: {', '.join(parts)} differ; use another id"
            f"{otherwise}", differing=parts, call_id=description.id,
        )  # fmt: skip


def time_left(request: CallRequest) -> timedelta:
    """Time until the deadline, if the call is accepted now."""
    if request.deadline_at is not None:
        return max(request.deadline_at - datetime.now(UTC), timedelta(0))
    return timedelta(seconds=request.deadline_after_s or 0)


def search_attributes_of(request: CallRequest) -> TypedSearchAttributes:
    """The search attributes that a call begins with."""
    if not request.search_attributes:
        return TypedSearchAttributes.empty
    pairs: list[SearchAttributePair[Any]] = [
        SearchAttributePair(search_attributes.MODEL, request.models[0].name),
        SearchAttributePair(search_attributes.OUTCOME, CallOutcome.RUNNING.value),
        SearchAttributePair(search_attributes.ATTEMPTS, 0),
    ]
    if request.session is not None:
        pairs.append(SearchAttributePair(search_attributes.SESSION, request.session))
    return TypedSearchAttributes(pairs)


def memo_of(call: NewCall | NexusCall) -> dict[str, Any]:
    """What a later submission compares, and the caller's labels."""
    labels = {MEMO_METADATA: dict(call.metadata)} if call.metadata else {}
    return {MEMO_FINGERPRINT: dict(call.fingerprint), **labels}


def summary_of(call: NewCall) -> str:
    """The chain and the prompt's size, as operators see them in the list of calls; no text of the prompt."""
    models, count = call.request.models, len(call.prompt.content)
    unit = "message" if call.prompt.texts is None else "text"
    chain = " → ".join(spec.name for spec in models[:4]) + (f" (+{len(models) - 4})" if len(models) > 4 else "")
    return f"{chain}, {count} {unit}{'s' if count > 1 else ''}, {max(1, round(call.prompt_bytes / 1000))} kB"
