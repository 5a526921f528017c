"""The activity that sets the rate of a quota's task queue on the server."""

import logging

from temporalio import activity
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import RateLimit
from temporalio.api.workflowservice.v1 import UpdateTaskQueueConfigRequest
from temporalio.service import RPCError, RPCStatusCode

from durable_llm.contract.names import SET_RATE_ACTIVITY
from durable_llm.contract.quotas import QuotaRate, quota_id

logger = logging.getLogger("durable_llm")


@activity.defn(name=SET_RATE_ACTIVITY)
async def set_quota_rate(rate: QuotaRate) -> bool:
    """Set the rate. The server keeps it until it is set again. False: this server keeps no rates.

    Raises:
        RPCError: the server did not take it; Temporal tries again.
    """
    client = activity.client()
    request = UpdateTaskQueueConfigRequest(
        namespace=client.namespace, identity=quota_id(rate.task_queue), task_queue=rate.task_queue,
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
    )  # fmt: skip
    request.update_queue_rate_limit.reason = rate.reason[:1000]
    if rate.per_second is not None:
        request.update_queue_rate_limit.rate_limit.CopyFrom(RateLimit(requests_per_second=rate.per_second))
    try:
        await client.workflow_service.update_task_queue_config(request)
    except RPCError as error:
        if error.status is RPCStatusCode.UNIMPLEMENTED:
            logger.warning("the Temporal server keeps no rates of task queues; quota %s is not kept", rate.task_queue)
            return False
        raise
    return True
