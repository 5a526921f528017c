"""An attempt at what an operator holds: nothing is sent, and the call waits until the hold ends."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from temporalio import activity
from temporalio.client import WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from durable_llm.backoff import Backoff
from durable_llm.contract.facts import LocalFault
from durable_llm.contract.holds import Hold, hold_id
from durable_llm.contract.names import HOLD_QUERY, WAIT_SIGNAL
from durable_llm.contract.quotas import of_quota_queue
from durable_llm.contract.request import AttemptOrder

from .faults import LocalFaultError

logger = logging.getLogger("durable_llm")

_RPC: Final = timedelta(seconds=10)
_QUERY: Final = timedelta(seconds=2)
_TRIES: Final = 5


class Holds:
    """What is held, as far as this worker knows."""

    def __init__(self) -> None:
        self._known: Sequence[Hold] = ()
        self._questions: dict[str, asyncio.Task[bool]] = {}
        """Whether a hold still holds, by its id."""

    def now(self, holds: Sequence[Hold]) -> None:
        """Take what is held now. One that has just been released may still be there."""
        self._known = holds

    async def check(self, order: AttemptOrder) -> None:
        """Return if nothing holds the attempt.

        Raises:
            LocalFaultError: HELD; the hold's workflow knows of the call, and will wake it.
        """
        for hold in self._known:
            if hold.covers(order.spec) and await self._joins(hold):
                until = f" until {hold.until:%Y-%m-%d %H:%M:%S} UTC" if hold.until else ""
                raise LocalFaultError(
                    LocalFault.HELD, f"{hold.title} is held{until} by {hold.by or 'an operator'}: {hold.why}"
                )

    async def _joins(self, hold: Hold) -> bool:
        """Tell the hold of the running attempt's call. False: it has ended, or does not answer at all."""
        info = activity.info()
        workflow_id = hold_id(of_quota_queue(info.task_queue)[0], hold.models, hold.api_key)
        handle, backoff = activity.client().get_workflow_handle(workflow_id), Backoff(first_s=0.2, longest_s=5.0)
        for _ in range(_TRIES):
            try:
                if not await self._holds(handle):
                    return False  # it is letting calls go on, and would only wake this one again
                await handle.signal(WAIT_SIGNAL, info.workflow_id, rpc_timeout=_RPC)
                return True
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND:
                    return False
            await backoff.pause()
        logger.warning("the hold of %s does not answer; the attempt is made", hold.title)
        return False

    async def _holds(self, handle: WorkflowHandle[Any, Any]) -> bool:
        """Whether it still holds. Attempts that ask at once share a question: a workflow answers one by one."""
        question = self._questions.get(handle.id)
        if question is None or question.done():
            question = self._questions[handle.id] = asyncio.ensure_future(_ask(handle))
        return await asyncio.shield(question)


async def _ask(handle: WorkflowHandle[Any, Any]) -> bool:
    """Whether a hold still holds; True as well if no worker says so in time: then its end will wake the call.

    Raises:
        RPCError: NOT_FOUND: there is no such hold.
    """
    try:
        answer: bool = await handle.query(HOLD_QUERY, result_type=bool, rpc_timeout=_QUERY)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise
        return True
    return answer
