"""Read and raise a budget that calls share."""

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from durable_llm.contract.budgets import BudgetRaise, BudgetStatus, budget_id, budget_start
from durable_llm.contract.names import BUDGET_QUERY, RAISE_UPDATE
from durable_llm.errors import InvalidRequestError


async def read_budget(client: Client, task_queue: str, name: str) -> BudgetStatus:
    """What a budget is at.

    Raises:
        InvalidRequestError: nothing was reserved from a budget of this name.
        RPCError: from the server, unchanged.
    """
    handle = client.get_workflow_handle(budget_id(task_queue, name))
    try:
        status: BudgetStatus = await handle.query(BUDGET_QUERY, result_type=BudgetStatus)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise InvalidRequestError(
                f"budget: no call has used {name!r} yet; one of a day has its date behind the name, as in "
                f"'{name}/2026-11-29'"
            ) from None
        raise
    return status


async def raise_budget(client: Client, task_queue: str, name: str, raised: BudgetRaise) -> BudgetStatus:
    """Set new limits of a budget, which begins with this if no call has used it yet.

    Raises:
        RPCError: from the server, unchanged.
    """
    status: BudgetStatus = await client.execute_update_with_start_workflow(
        RAISE_UPDATE, raised, result_type=BudgetStatus, start_workflow_operation=budget_start(task_queue, name)
    )
    return status
