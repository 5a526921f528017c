"""The workflow's side of one attempt: the activity and its timeouts."""

from datetime import timedelta
from typing import Final

from temporalio import workflow
from temporalio.common import RawValue, RetryPolicy
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from durable_llm.contract.attempt_failure import facts_of_activity_failure
    from durable_llm.contract.facts import FailureFacts
    from durable_llm.contract.names import ATTEMPT_ACTIVITY, HEARTBEAT_TIMEOUT_FUNCTION, QUOTA_QUEUE_FUNCTION
    from durable_llm.contract.request import INLINE_PROMPT_BYTES, AttemptOrder
    from durable_llm.contract.result import Answer

HOLD_ALLOWANCE: Final = timedelta(minutes=15)
"""How long an attempt may hold its answer while the Temporal server is away; a longer heartbeat timeout extends it."""

DEFAULT_HEARTBEAT_TIMEOUT: Final = timedelta(seconds=60)

_NEVER_RETRIED: Final = RetryPolicy(maximum_attempts=1)
"""Temporal never retries by itself; the policy does, so that every request has its entry in the ledger."""


def quota_queue_of(order: AttemptOrder) -> str | None:
    """The task queue of the attempt's quota. None: no quota is declared for its model.

    It depends on this worker's settings. A replay compares no task queues, and the server keeps the queue that the
    attempt was scheduled on.
    """
    offered = workflow.extern_functions().get(QUOTA_QUEUE_FUNCTION)
    queue: str | None = offered(order.spec) if offered and not order.batch else None
    return queue


async def run_attempt(
    order: AttemptOrder, prompt: RawValue, summary: str, task_queue: str | None = None
) -> Answer | FailureFacts:
    """Schedule one provider attempt and return its answer or the facts of its failure.

    Args:
        order: What to ask.
        prompt: The call's prompt.
        summary: For the UI.
        task_queue: A quota's. None: the call's own.

    Raises:
        ActivityError: the attempt was cancelled with the call.
    """
    offered = workflow.extern_functions().get(HEARTBEAT_TIMEOUT_FUNCTION)
    heartbeat_timeout: timedelta = offered() if offered else DEFAULT_HEARTBEAT_TIMEOUT  # a replay compares no timeouts
    grace = timedelta(0) if order.batch else max(HOLD_ALLOWANCE, heartbeat_timeout)
    try:
        answer: Answer = await workflow.execute_activity(
            ATTEMPT_ACTIVITY,
            args=[order, _inline(prompt)],
            result_type=Answer,
            task_queue=task_queue,
            start_to_close_timeout=timedelta(seconds=order.timeout_s) + grace,
            heartbeat_timeout=None if order.batch else heartbeat_timeout,  # nobody beats for a line of a batch
            retry_policy=_NEVER_RETRIED,
            cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
            summary=summary,
        )
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        return facts_of_activity_failure(error.cause, order)
    return answer


def _inline(prompt: RawValue) -> RawValue | None:
    """A small prompt as the payload that it is; None for a large one, which the attempt reads from the history."""
    return prompt if len(prompt.payload.data) <= INLINE_PROMPT_BYTES else None
