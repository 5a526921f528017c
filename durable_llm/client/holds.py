"""Hold an account or a model, and release it."""

from datetime import UTC, datetime, timedelta
from typing import Final

from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from durable_llm.client.control import told_by
from durable_llm.client.listing import quoted
from durable_llm.contract.control import Told
from durable_llm.contract.holds import MEMO_HOLD, Hold, HoldStart, hold_id
from durable_llm.contract.names import HOLD_WORKFLOW, RELEASE_SIGNAL
from durable_llm.errors import InvalidRequestError

_MOST: Final = 200


async def start_hold(
    client: Client, task_queue: str, models: str, *, why: str, by: str | None, api_key: str | None,
    lasts: timedelta | None,
) -> None:  # fmt: skip
    """Hold; see `Dispatcher.hold`.

    Raises:
        InvalidRequestError: the same is held already, or what is given cannot be held.
        RPCError: from the server, unchanged.
    """
    now = datetime.now(UTC)
    until = None if lasts is None else now + lasts
    hold = told_by(Hold, "hold", why=why, by=by, models=models, api_key=api_key, since=now, until=until)
    try:
        await client.start_workflow(
            HOLD_WORKFLOW, HoldStart(hold=hold), id=hold_id(task_queue, models, api_key), task_queue=task_queue,
            memo={MEMO_HOLD: hold}, static_summary=f"{hold.title}: {why}"[:200],
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE, id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
        )  # fmt: skip
    except WorkflowAlreadyStartedError:
        raise InvalidRequestError(f"hold: {hold.title} is held already; release it first") from None


async def release_hold(
    client: Client, task_queue: str, models: str, *, why: str, by: str | None, api_key: str | None
) -> None:
    """Release; see `Dispatcher.release`.

    Raises:
        InvalidRequestError: it is not held, or what is given is too long.
        RPCError: from the server, unchanged.
    """
    released = told_by(Told, "release", why=why, by=by)
    handle = client.get_workflow_handle(hold_id(task_queue, models, api_key))
    try:
        await handle.signal(RELEASE_SIGNAL, released)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise InvalidRequestError(f"release: {models!r} is not held; 'durable-llm holds' lists what is") from None
        raise


async def find_holds(client: Client, task_queue: str) -> list[Hold]:
    """What is held for calls of a task queue.

    Raises:
        RPCError: from the server, unchanged.
    """
    query = f"WorkflowType = '{HOLD_WORKFLOW}' AND TaskQueue = {quoted(task_queue)} AND ExecutionStatus = 'Running'"
    found = client.list_workflows(query, limit=_MOST)
    return [
        hold async for each in found if (hold := await each.memo_value(MEMO_HOLD, None, type_hint=Hold)) is not None
    ]
