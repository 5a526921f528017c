"""One submission to Temporal: start the call, or find that its id is taken and by what."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

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
from durable_llm.client.endings import check_workflow_type
from durable_llm.client.fingerprint import differing
from durable_llm.client.submitted_prompt import SubmittedPrompt
from durable_llm.contract import search_attributes
from durable_llm.contract.categories import CallOutcome
from durable_llm.contract.names import MEMO_FINGERPRINT, MEMO_METADATA, WORKFLOW
from durable_llm.contract.request import CallRequest
from durable_llm.errors import CallConflictError

EXECUTION_GRACE: Final = timedelta(seconds=60)
"""The workflow's own timer ends a call at its deadline; Temporal's execution timeout is the net behind it."""

_FAILED = {
    WorkflowExecutionStatus.FAILED,
    WorkflowExecutionStatus.CANCELED,
    WorkflowExecutionStatus.TERMINATED,
    WorkflowExecutionStatus.TIMED_OUT,
}


class Submission:
    """One submission: what to start, and what to compare when the id is taken."""

    def __init__(
        self, client: Client, task_queue: str, call_id: str, *, request: CallRequest, prompt: SubmittedPrompt,
        fingerprint: Mapping[str, str], metadata: Mapping[str, str],
    ) -> None:  # fmt: skip
        self._client = client
        self._task_queue = task_queue
        self.call_id = call_id
        self._request = request
        self._prompt = prompt
        self._fingerprint = dict(fingerprint)
        self._memo = {MEMO_FINGERPRINT: self._fingerprint, **({MEMO_METADATA: dict(metadata)} if metadata else {})}

    async def start_or_attach(self, *, rerun: bool, attach_anyway: bool) -> None:
        """Start the call; where the id is taken, see that it is the same request.

        Raises:
            CallConflictError: it is another one.
            DispatcherUnavailableError: the store of a large prompt refuses it.
            InvalidRequestError: the call would have to be started, and its deadline has passed.
        """
        look_first = self._prompt.is_stored or has_passed(self._request.deadline_at)  # who attaches needs neither
        taken = look_first and await self._is_taken()
        if not taken and await self._start(WorkflowIDReusePolicy.REJECT_DUPLICATE):
            return
        description = await self._client.get_workflow_handle(self.call_id).describe()
        await self._check(description, attach_anyway)
        if not rerun or description.status not in _FAILED:
            return
        if not await self._start(WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY):
            # Another submission was faster: its run is the one to attach to, if it is the same request.
            await self._check(await self._client.get_workflow_handle(self.call_id).describe(), attach_anyway)

    async def _is_taken(self) -> bool:
        try:
            await self._client.get_workflow_handle(self.call_id).describe()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return False  # or there is no such namespace, which the start will say
            raise
        return True

    async def _start(self, reuse: WorkflowIDReusePolicy) -> bool:
        """Whether this submission started the call; False where the id is taken."""
        check_not_passed(self._request.deadline_at)
        prompt = await self._prompt.argument()
        try:
            await self._client.start_workflow(
                WORKFLOW,
                args=[self._request, prompt],
                id=self.call_id,
                task_queue=self._task_queue,
                execution_timeout=self._execution_timeout(),
                id_reuse_policy=reuse,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                memo=self._memo,
                search_attributes=self._search_attributes(),
                static_summary=self._summary(),
            )
        except WorkflowAlreadyStartedError:
            return False
        return True

    async def _check(self, description: WorkflowExecutionDescription, attach_anyway: bool) -> None:
        """Refuse to attach to another workflow type, and, unless told to, to another request."""
        check_workflow_type(description, self.call_id)
        if attach_anyway:
            return
        theirs: dict[str, str] = await description.memo_value(MEMO_FINGERPRINT, {}, type_hint=dict[str, str])
        if parts := differing(self._fingerprint, theirs):
            raise CallConflictError(
                f"call id {self.call_id!r} belongs to another request: {', '.join(parts)} differ; use another id, or "
                "if_different='attach' to get that call's answer",
                differing=parts,
                call_id=self.call_id,
            )

    def _execution_timeout(self) -> timedelta:
        if self._request.deadline_at is not None:
            return max(self._request.deadline_at - datetime.now(UTC), timedelta(0)) + EXECUTION_GRACE
        return timedelta(seconds=self._request.deadline_after_s or 0) + EXECUTION_GRACE

    def _search_attributes(self) -> TypedSearchAttributes:
        if not self._request.search_attributes:
            return TypedSearchAttributes.empty
        pairs: list[SearchAttributePair[Any]] = [
            SearchAttributePair(search_attributes.MODEL, self._request.models[0].name),
            SearchAttributePair(search_attributes.OUTCOME, CallOutcome.RUNNING.value),
            SearchAttributePair(search_attributes.ATTEMPTS, 0),
        ]
        if self._request.session is not None:
            pairs.append(SearchAttributePair(search_attributes.SESSION, self._request.session))
        return TypedSearchAttributes(pairs)

    def _summary(self) -> str:
        """The chain and the size: what an operator sees in the list, without a word of the prompt."""
        chain = " → ".join(spec.name for spec in self._request.models[:4])
        more = f" (+{len(self._request.models) - 4})" if len(self._request.models) > 4 else ""
        count = self._prompt.messages
        size = max(1, round(self._prompt.size / 1000))
        return f"{chain}{more}, {count} message{'s' if count > 1 else ''}, {size} kB"
