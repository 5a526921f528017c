"""An attempt at what an operator holds: nothing is sent, and the call waits until the hold ends."""

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from temporalio import activity
from temporalio.client import WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from durable_llm.contract.facts import LocalFault
from durable_llm.contract.holds import Hold, hold_id
from durable_llm.contract.names import HOLD_QUERY, WAIT_SIGNAL
from durable_llm.contract.quotas import of_quota_queue
from durable_llm.contract.request import AttemptOrder

from .faults import LocalFaultError

_RPC: Final = timedelta(seconds=10)
_ANSWER_LASTS_S: Final = 1.0


class Holds:
    """What is held, as far as this worker knows."""

    def __init__(self) -> None:
        self._known: Sequence[Hold] = ()
        self._asked: dict[str, tuple[float, asyncio.Task[bool]]] = {}
        """When a hold was last asked whether it still holds, and its answer."""

    def now(self, holds: Sequence[Hold]) -> None:
        """Take what is held now. One that has just been released may still be there."""
        self._known = holds

    async def check(self, order: AttemptOrder) -> None:
        """Return if nothing holds the attempt.

        Raises:
            LocalFaultError: HELD; the hold's workflow knows of the call, and will wake it.
            RPCError: the server did not answer.
        """
        for hold in self._known:
            if hold.covers(order.spec) and await self._joins(hold):
                until = f" until {hold.until:%Y-%m-%d %H:%M:%S} UTC" if hold.until else ""
                raise LocalFaultError(
                    LocalFault.HELD, f"{hold.title} is held{until} by {hold.by or 'an operator'}: {hold.why}"
                )

    async def _joins(self, hold: Hold) -> bool:
        """Tell the hold of the running attempt's call. False: it has ended."""
        info = activity.info()
        workflow_id = hold_id(of_quota_queue(info.task_queue)[0], hold.models, hold.api_key)
        handle = activity.client().get_workflow_handle(workflow_id)
        try:
            if not await self._holds(handle):
                return False  # it is letting calls go on, and would only wake this one again
            await handle.signal(WAIT_SIGNAL, info.workflow_id, rpc_timeout=_RPC)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return False
            raise
        return True

    async def _holds(self, handle: WorkflowHandle[Any, Any]) -> bool:
        """Whether it still holds; asked once a second for all attempts, since a workflow answers one by one."""
        asked = self._asked.get(handle.id)
        if asked is None or time.monotonic() - asked[0] > _ANSWER_LASTS_S:
            question = handle.query(HOLD_QUERY, result_type=bool, rpc_timeout=_RPC)
            asked = self._asked[handle.id] = (time.monotonic(), asyncio.ensure_future(question))
        return await asyncio.shield(asked[1])
