"""Calls from inside a Temporal workflow.

    from durable_llm import workflow as llm

    @workflow.defn
    class Agent:
        @workflow.run
        async def run(self, task: str) -> str:
            answer = await llm.call("openai/gpt-4o-mini", task)
            return answer.text

The workflow's worker has `DurableLLMPlugin`. A call is a child workflow, or an operation of a Nexus endpoint.
"""

import asyncio
from datetime import timedelta
from typing import Unpack

from temporalio import workflow
from temporalio.common import RawValue, WorkflowIDReusePolicy
from temporalio.exceptions import (
    ApplicationError,
    ChildWorkflowError,
    NexusOperationError,
    WorkflowAlreadyStartedError,
    is_cancelled_exception,
)

with workflow.unsafe.imports_passed_through():
    from durable_llm.client.handle import call_error, with_parsed
    from durable_llm.client.new_call import CallOptions, ConfigLike, NewCall, chat_prompt, new_call, to_config
    from durable_llm.client.prompt import Messages
    from durable_llm.client.submission import memo_of, search_attributes_of, summary_of
    from durable_llm.contract.names import STORE_FUNCTION, STORE_MARK, WORKFLOW
    from durable_llm.contract.nexus import DurableLLMService, NexusCall
    from durable_llm.contract.request import DEADLINE_GRACE, INLINE_PROMPT_BYTES
    from durable_llm.contract.result import LLMResult
    from durable_llm.errors import CallConflictError, InvalidRequestError

_NOT_HERE = ("if_failed", "if_different")
"""Options of `submit` that only callers outside of workflows have."""


async def call(
    config: ConfigLike,
    messages: Messages,
    *,
    call_id: str | None = None,
    task_queue: str | None = None,
    endpoint: str | None = None,
    search_attributes: bool = True,
    **options: Unpack[CallOptions],
) -> LLMResult:
    """The answer. Takes the options of `Dispatcher.submit`, but for those that attach.

    If this workflow is cancelled, so is the call. If it ends otherwise, the call goes on. With DURABLE_LLM_STORE on
    this workflow's worker, its history holds a reference to the prompt instead of the prompt.

    Args:
        config: The models to ask.
        messages: A question, or chat messages.
        call_id: The call's id. None: a fresh one, which begins with this workflow's id.
        task_queue: The queue of the call's workers. None: the one of this workflow.
        endpoint: A Nexus endpoint that leads to workers with `DurableLLMPlugin`, in any namespace. Then a `call_id`
            that the same request has is attached to.
        search_attributes: False for a namespace that lacks our search attributes.
        options: The other options of `submit`.

    Raises:
        InvalidRequestError: something is wrong with the request; nothing was sent.
        CallConflictError: the id is taken: by any call if there is no `endpoint`, by another request if there is one.
        DurableLLMError: how the call ended, as `CallHandle.result` raises it.
    """
    if given := [name for name in _NOT_HERE if name in options]:
        raise InvalidRequestError(f"{given[0]}: a workflow cannot attach to a call; leave it out")
    chain = to_config(config)
    stores = _has_store()
    own_id = f"{workflow.info().workflow_id}/llm-{workflow.uuid4()}" if call_id is None else call_id
    new = new_call(
        chain, chat_prompt(chain, messages, options), options, call_id=own_id, search_attributes=search_attributes,
        stored_above=INLINE_PROMPT_BYTES if stores and endpoint is None else None,
    )  # fmt: skip
    left = _time_left(new)
    try:
        ended = await (_child(new, task_queue, left, stores) if endpoint is None else _operation(new, endpoint, left))
    except WorkflowAlreadyStartedError:
        raise CallConflictError(
            f"call id {new.call_id!r} is taken, and a workflow can attach only over a Nexus endpoint: pass endpoint, "
            "or another id", call_id=new.call_id,
        ) from None  # fmt: skip
    except (ChildWorkflowError, NexusOperationError) as error:
        task = asyncio.current_task()
        if is_cancelled_exception(error) and task is not None and task.cancelling():
            raise  # this workflow was cancelled
        cause = _failure(error)
        if isinstance(cause, ApplicationError) and cause.type == CallConflictError.__name__:
            raise CallConflictError(cause.message, differing=cause.details, call_id=new.call_id) from error
        raise call_error(cause, new.call_id, []) from error
    response_format = options.get("response_format")
    return with_parsed(ended, response_format if isinstance(response_format, type) else None)


def _has_store() -> bool:
    """Whether prompts of this workflow go to a store. It is in the history, since workers may differ."""
    here = STORE_FUNCTION in workflow.extern_functions()
    return (here or workflow.unsafe.is_replaying()) and workflow.patched(STORE_MARK)


async def _child(new: NewCall, task_queue: str | None, left: timedelta, stores: bool) -> LLMResult:
    result: LLMResult = await workflow.execute_child_workflow(
        WORKFLOW,
        args=[new.request, _prompt(new, stores)],
        id=new.call_id,
        task_queue=task_queue,
        result_type=LLMResult,
        parent_close_policy=workflow.ParentClosePolicy.ABANDON,  # a paid call is not thrown away
        id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
        run_timeout=left + DEADLINE_GRACE,
        memo=memo_of(new),
        search_attributes=search_attributes_of(new.request),
        static_summary=summary_of(new),
        priority=new.share.for_temporal,
    )
    return result


async def _operation(new: NewCall, endpoint: str, left: timedelta) -> LLMResult:
    client = workflow.create_nexus_client(service=DurableLLMService, endpoint=endpoint)
    given = NexusCall(
        call_id=new.call_id, request=new.request, prompt=new.prompt, fingerprint=dict(new.fingerprint),
        metadata=dict(new.metadata), share=new.share,
    )  # fmt: skip
    return await client.execute_operation(
        DurableLLMService.call, given, schedule_to_close_timeout=left + DEADLINE_GRACE * 2, summary=summary_of(new)
    )


def _prompt(new: NewCall, stores: bool) -> RawValue:
    """The prompt; a large one is marked for this worker's codec, which puts it into the store.

    A replay compares no inputs, so it gets none: else each would put every prompt into the store again.
    """
    if workflow.unsafe.is_replaying():
        return RawValue(workflow.payload_converter().to_payload(None))
    payload = workflow.payload_converter().to_payload(new.prompt)
    if stores and new.stored:
        payload.metadata[STORE_MARK] = b"prompt"
    return RawValue(payload)


def _time_left(new: NewCall) -> timedelta:
    if new.request.deadline_at is None:
        return timedelta(seconds=new.request.deadline_after_s or 0)
    left = new.request.deadline_at - workflow.now()
    if left <= timedelta(0):
        raise InvalidRequestError("deadline: lies in the past")
    return left


def _failure(error: ChildWorkflowError | NexusOperationError) -> BaseException | None:
    """The failure of the call itself, below what Nexus wraps around it."""
    cause: BaseException | None = error.cause
    while cause is not None and not isinstance(cause, ApplicationError) and cause.__cause__ is not None:
        cause = cause.__cause__
    return cause
