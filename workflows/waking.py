"""Tell calls that what they wait for has come."""

import asyncio
from collections.abc import Iterable

from temporalio import workflow
from temporalio.exceptions import FailureError

with workflow.unsafe.imports_passed_through():
    from durable_llm.contract.names import RESUME_SIGNAL


async def wake(call_ids: Iterable[str]) -> bool:
    """Let calls go on. Those that have ended are passed over; returns whether there were any."""
    signals = [workflow.get_external_workflow_handle(call_id).signal(RESUME_SIGNAL) for call_id in call_ids]
    ended = await asyncio.gather(*signals, return_exceptions=True)
    for outcome in ended:
        if isinstance(outcome, BaseException) and not isinstance(outcome, FailureError):
            raise outcome
    return any(isinstance(outcome, FailureError) for outcome in ended)
